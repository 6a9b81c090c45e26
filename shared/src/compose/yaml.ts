import { Document, isAlias, isMap, isScalar, isSeq, type Node, parse, parseDocument, visit } from 'yaml';
import type { Json } from '../json';

/** A key that no version of YAML takes for a number or for anything else that is no text; words such as `on` are quoted by the library. */
const PLAIN_KEY = /^[A-Za-z_][A-Za-z0-9_./-]*$/;

/** As YAML that reads the same under YAML 1.1 and 1.2: every text is quoted, so that `on`, `1e3` or `0777` stay texts. */
export function renderYaml(value: Json): string {
  const document = new Document(value, { version: '1.1' });
  visit(document, {
    Pair: (_, { key }) => {
      if (isScalar(key) && !PLAIN_KEY.test(String(key.value))) key.type = 'QUOTE_DOUBLE';
    },
  });
  return document.toString({ defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'PLAIN', lineWidth: 0 });
}

/** @throws YAMLParseError; its message quotes the source. */
export function parseYaml(text: string): Json {
  // Compose reads `<<` merges; aliases are bounded by the library against exponential growth.
  return parse(text, { merge: true }) as Json;
}

/** A value and where it stands in its text, for changes that leave the rest of the text alone. */
export interface LocatedNode {
  /** `other`: null, or an alias, which has the `alias` it names. */
  readonly kind: 'map' | 'list' | 'text' | 'other';
  /** `{a: 1}` or `[1]`. */
  readonly isFlow: boolean;
  /** Offsets of its first character and behind its last one, without an anchor or tag before it and blanks or comments behind it. */
  readonly start: number;
  readonly end: number;
  /** As written, of a plain or quoted scalar. */
  readonly text: string;
  /** Of an alias (`*name`). */
  readonly alias: string;
  /** `&name` before it; empty without. */
  readonly anchor: string;
  readonly entries: readonly LocatedEntry[];
  readonly items: readonly LocatedNode[];
}

export interface LocatedEntry {
  readonly key: string;
  /** Offset of the key's first character. */
  readonly start: number;
  readonly value: LocatedNode;
}

/** The one document of a text, located. Undefined where it is none or cannot be parsed. */
export function locateYaml(text: string): LocatedNode | undefined {
  // `merge` is off: what is merged stands elsewhere.
  const document = parseDocument(text, { merge: false });
  if (document.errors.length > 0 || document.contents === null) return undefined;
  return locate(document.contents);
}

function locate(node: Node | null): LocatedNode {
  const [start = 0, end = 0] = node?.range ?? [];
  const common = {
    kind: 'other',
    isFlow: false,
    start,
    end,
    text: '',
    alias: '',
    anchor: '',
    entries: [],
    items: [],
  } as const;
  if (isAlias(node)) return { ...common, alias: node.source };
  const anchor = isScalar(node) || isSeq(node) || isMap(node) ? (node.anchor ?? '') : '';
  if (isScalar(node)) {
    return node.value === null
      ? { ...common, anchor }
      : { ...common, anchor, kind: 'text', text: node.source ?? JSON.stringify(node.value) };
  }
  if (isSeq(node)) {
    const items = node.items.map((item) => locate(item as Node | null));
    return {
      ...common,
      anchor,
      kind: 'list',
      isFlow: node.flow === true,
      items,
      end: node.flow === true ? end : endOf(items, end),
    };
  }
  if (!isMap(node)) return common;
  const entries = node.items.flatMap(({ key, value }) => {
    if (!isScalar(key) || !key.range) return [];
    const located = locate(value as Node | null);
    // A key without a value, or with nothing but an anchor, ends with itself.
    return [
      {
        key: String(key.value),
        start: key.range[0],
        value: located.end > key.range[1] ? located : { ...located, end: key.range[1] },
      },
    ];
  });
  const last = endOf(
    entries.map((entry) => entry.value),
    end,
  );
  return { ...common, anchor, kind: 'map', isFlow: node.flow === true, entries, end: node.flow === true ? end : last };
}

/** The library lets a block collection end where the next thing begins; the comments between are not its own. */
function endOf(children: readonly LocatedNode[], otherwise: number): number {
  return children.length === 0 ? otherwise : Math.max(...children.map((child) => child.end));
}
