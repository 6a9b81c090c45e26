/** Values of a workflow file, some of them expressions, and what GitHub's own evaluator makes of them. */
import { data, Evaluator, Lexer, Parser } from '@actions/expressions';
import { HarnessError } from '../e2e/harness/index.ts';
import { githubLanguage, type Language, type Token } from '../e2e/harness/github-language.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** `${{ source }}`; a text around it has become `format('...', source)`, as GitHub's parser does it. */
export class Expression {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

export type Template =
  null | boolean | number | string | Expression | readonly Template[] | { readonly [key: string]: Template };

export type Mapping = Readonly<Record<string, Template>>;

/** What an expression may ask for. A name that is not there is an error, where GitHub would give an empty text. */
export interface Scope {
  readonly contexts: Readonly<Record<string, Json>>;
  /** `success`, `failure`, `always`, `cancelled`; none where GitHub has none. */
  readonly functions?: Readonly<Record<string, () => boolean>>;
  /** Places such as `github.event` or `steps.a.outputs` where anything may be missing. */
  readonly lenient?: ReadonlySet<string>;
}

/** A file through GitHub's parser. @throws HarnessError with every error that it finds */
export async function parseFile(path: string, text: string): Promise<Template> {
  const language = await githubLanguage();
  const { value, context } = language.parseWorkflow(
    { name: path, content: text },
    new language.NoOperationTraceWriter(),
  );
  const errors = context.errors.getErrors();
  if (value === undefined || errors.length > 0) {
    throw new HarnessError(`${path}: ${errors.map((error) => error.message).join('; ') || 'it is empty'}`);
  }
  return toTemplate(value, language);
}

function toTemplate(token: Token, language: Language): Template {
  if (language.isMapping(token)) {
    return Object.fromEntries(
      [...token].map(({ key, value }) => {
        if (!language.isString(key)) throw new HarnessError('a key that is an expression is not supported');
        // A condition is an expression with or without the braces; it gets its `success()` here.
        if (key.value === 'if') return [key.value, toCondition(value, language)];
        return [key.value, toTemplate(value, language)];
      }),
    );
  }
  if (language.isSequence(token)) return [...token].map((one) => toTemplate(one, language));
  if (language.isBasicExpression(token)) return new Expression(token.expression);
  if (language.isString(token) || language.isBoolean(token) || language.isNumber(token)) return token.value;
  if (language.isLiteral(token)) return null;
  throw new HarnessError(`a token of type ${token.templateTokenType} is not supported`);
}

function toCondition(token: Token, language: Language): Expression {
  const value = toTemplate(token, language);
  const source = value instanceof Expression ? value.source : asText(value as Json);
  return new Expression(language.ensureStatusFunction(source.trim(), token.definitionInfo));
}

/** @throws HarnessError for an expression that GitHub would not take, or that asks for what is not there */
export function evaluate(template: Template, scope: Scope): Json {
  if (template instanceof Expression) return toJson(evaluateExpression(template.source, scope));
  if (Array.isArray(template)) return template.map((one) => evaluate(one as Template, scope));
  if (typeof template === 'object' && template !== null) {
    return Object.fromEntries(Object.entries(template).map(([key, value]) => [key, evaluate(value, scope)]));
  }
  return template;
}

/** A scalar as a text. @throws HarnessError for a list or a mapping */
export function asText(value: Json | undefined): string {
  if (value === undefined || value === null) return '';
  if (typeof value === 'object') throw new HarnessError(`${JSON.stringify(value)} where a text is expected`);
  return String(value);
}

/** As the runner makes a text of it, for `with`, `env` and `run`. */
export function evaluateText(template: Template | undefined, scope: Scope): string {
  if (template instanceof Expression) return evaluateExpression(template.source, scope).coerceString();
  if (template === undefined || template === null) return '';
  if (typeof template === 'object') throw new HarnessError('a list or mapping where a text is expected');
  return String(template);
}

export function evaluateTexts(mapping: Mapping | undefined, scope: Scope): Record<string, string> {
  return Object.fromEntries(Object.entries(mapping ?? {}).map(([key, value]) => [key, evaluateText(value, scope)]));
}

/** Whether a condition holds: what is neither false, 0, '' nor null does. */
export function holds(condition: Expression, scope: Scope): boolean {
  const value = toJson(evaluateExpression(condition.source, scope));
  return value !== null && value !== false && value !== 0 && value !== '' && !Number.isNaN(value);
}

function evaluateExpression(source: string, { contexts, functions = {}, lenient }: Scope): data.ExpressionData {
  try {
    const implemented = Object.entries(functions).map(([name, call]) => ({
      name,
      minArgs: 0,
      maxArgs: 0,
      call: () => new data.BooleanData(call()),
    }));
    const tree = new Parser(new Lexer(source).lex().tokens, Object.keys(contexts), implemented).parse();
    const roots = Object.entries(contexts).map(([key, value]) => ({ key, value: toData(value, key, lenient) }));
    return new Evaluator(
      tree,
      new data.Dictionary(...roots),
      new Map(implemented.map((one) => [one.name, one])),
    ).evaluate();
  } catch (error) {
    throw new HarnessError(
      `the harness cannot evaluate \${{ ${source} }}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Refuses to answer for what it does not hold. */
class Strict extends data.Dictionary {
  readonly #path: string;
  constructor(path: string, pairs: readonly { readonly key: string; readonly value: data.ExpressionData }[]) {
    super(...pairs);
    this.#path = path;
  }
  override get(key: string): data.ExpressionData {
    const value = super.get(key);
    if (value === undefined) throw new Error(`there is no ${this.#path}.${key}`);
    return value;
  }
}

function toData(value: Json, path: string, lenient: ReadonlySet<string> = new Set()): data.ExpressionData {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || lenient.has(path)) {
    return JSON.parse(JSON.stringify(value), data.reviver) as data.ExpressionData;
  }
  return new Strict(
    path,
    Object.entries(value).map(([key, one]) => ({ key, value: toData(one, `${path}.${key}`, lenient) })),
  );
}

function toJson(value: data.ExpressionData): Json {
  if (value instanceof data.Dictionary) {
    return Object.fromEntries(value.pairs().map((pair) => [pair.key, toJson(pair.value)]));
  }
  if (value instanceof data.Array) return value.values().map(toJson);
  if (value instanceof data.BooleanData || value instanceof data.NumberData || value instanceof data.StringData) {
    return value.value;
  }
  return null;
}
