/**
 * Enough of Alloy's syntax to hold a configuration against its rules where no Alloy can be run: blocks, attributes and what they refer to.
 * https://grafana.com/docs/alloy/latest/get-started/configuration-syntax/syntax/
 */

export interface Block {
  /** `loki.process`, or `stage.json` inside one. */
  readonly name: string;
  /** Of a component; undefined for other blocks. */
  readonly label: string | undefined;
  readonly attributes: ReadonlyMap<string, Value>;
  readonly blocks: readonly Block[];
}

/** A reference is a dotted name: `loki.write.loki.receiver`. */
export type Value =
  | { readonly kind: 'literal'; readonly value: string | number | boolean }
  | { readonly kind: 'reference'; readonly name: string }
  | { readonly kind: 'array'; readonly items: readonly Value[] }
  | { readonly kind: 'object'; readonly fields: ReadonlyMap<string, Value> };

interface Token {
  readonly kind: 'name' | 'string' | 'number' | 'mark' | 'line';
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /(?<space>[ \t\r]+|\/\/[^\n]*)|(?<line>\n)|(?<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?<number>\d+(?:\.\d+)?)|(?<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?<mark>[{}[\]=,])/gy;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const groups = TOKEN.exec(text)?.groups;
    if (groups === undefined) throw new Error(`line ${lineOf(text, at)}: ${text.slice(at, at + 20)}`);
    for (const kind of ['line', 'string', 'number', 'name', 'mark'] as const) {
      const found = groups[kind];
      if (found !== undefined) tokens.push({ kind, text: found, at });
    }
  }
  return tokens;
}

const lineOf = (text: string, at: number): number => text.slice(0, at).split('\n').length;

/** @throws Error with the line at which it is not Alloy's syntax */
export function parseAlloy(text: string): readonly Block[] {
  const tokens = tokenize(text);
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(
      `line ${lineOf(text, tokens[at]?.at ?? text.length)}: expected ${what}, found ${tokens[at]?.text ?? 'the end'}`,
    );
  };
  const skipLines = (): void => {
    while (tokens[at]?.kind === 'line') at += 1;
  };
  const take = (mark: string): void => {
    if (tokens[at]?.kind !== 'mark' || tokens[at]?.text !== mark) fail(mark);
    at += 1;
  };
  const isMark = (mark: string): boolean => tokens[at]?.kind === 'mark' && tokens[at]?.text === mark;
  const unquote = (quoted: string): string =>
    quoted.startsWith('`') ? quoted.slice(1, -1) : (JSON.parse(quoted) as string);

  const parseList = <T>(end: string, parseItem: () => T): T[] => {
    const items: T[] = [];
    skipLines();
    while (!isMark(end)) {
      items.push(parseItem());
      // A list over several lines has a comma behind its last item too.
      if (isMark(',')) at += 1;
      else if (!isMark(end)) fail(`, or ${end}`);
      skipLines();
    }
    take(end);
    return items;
  };
  const parseValue = (): Value => {
    const token = tokens[at] ?? fail('a value');
    if (isMark('[')) {
      at += 1;
      return { kind: 'array', items: parseList(']', parseValue) };
    }
    if (isMark('{')) {
      at += 1;
      const fields = parseList('}', () => {
        const key = tokens[at] ?? fail('a key');
        if (key.kind !== 'string' && key.kind !== 'name') fail('a key');
        at += 1;
        take('=');
        return [key.kind === 'string' ? unquote(key.text) : key.text, parseValue()] as const;
      });
      return { kind: 'object', fields: new Map(fields) };
    }
    at += 1;
    if (token.kind === 'string') return { kind: 'literal', value: unquote(token.text) };
    if (token.kind === 'number') return { kind: 'literal', value: Number(token.text) };
    if (token.text === 'true' || token.text === 'false') return { kind: 'literal', value: token.text === 'true' };
    if (token.kind === 'name') return { kind: 'reference', name: token.text };
    at -= 1;
    return fail('a value');
  };
  const parseBody = (end: '}' | undefined): Pick<Block, 'attributes' | 'blocks'> => {
    const attributes = new Map<string, Value>();
    const blocks: Block[] = [];
    skipLines();
    while (end === undefined ? at < tokens.length : !isMark(end)) {
      const token = tokens[at] ?? fail(end ?? 'a block');
      if (token.kind !== 'name') fail('a name');
      at += 1;
      if (isMark('=')) {
        at += 1;
        if (attributes.has(token.text)) fail(`${token.text} once`);
        attributes.set(token.text, parseValue());
      } else {
        const quoted = tokens[at];
        const label = quoted?.kind === 'string' ? unquote(quoted.text) : undefined;
        if (label !== undefined) at += 1;
        take('{');
        const body = parseBody('}');
        take('}');
        blocks.push({ name: token.text, label, ...body });
      }
      // Each statement ends with its line.
      if (at < tokens.length && tokens[at]?.kind !== 'line' && !isMark('}')) fail('the end of the line');
      skipLines();
    }
    return { attributes, blocks };
  };
  const { attributes, blocks } = parseBody(undefined);
  if (attributes.size > 0) throw new Error(`${[...attributes.keys()].join(', ')}: attributes are only in blocks`);
  return blocks;
}

/** Every reference in a block, with those of the blocks in it. */
export function listReferences({ attributes, blocks }: Block): string[] {
  const ofValue = (value: Value): string[] => {
    switch (value.kind) {
      case 'literal':
        return [];
      case 'reference':
        return [value.name];
      case 'array':
        return value.items.flatMap(ofValue);
      case 'object':
        return [...value.fields.values()].flatMap(ofValue);
    }
  };
  return [...[...attributes.values()].flatMap(ofValue), ...blocks.flatMap(listReferences)];
}
