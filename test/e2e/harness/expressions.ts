/** `${{ }}` in the defaults of an action, evaluated by GitHub's own evaluator. */
import { data, Evaluator, Lexer, Parser } from '@actions/expressions';
import { HarnessError } from './harness-error.ts';

/** Contexts by name; what is not in here is unknown, and an error. */
export type Contexts = Readonly<Record<string, Readonly<Record<string, string>>>>;

/**
 * Replaces each `${{ expression }}` by its value.
 *
 * @throws HarnessError for an expression that does not parse, or asks for what the contexts do not hold: the real
 * runner would give an empty text there, and a test would not notice.
 */
export function evaluateTemplate(text: string, contexts: Contexts): string {
  return text.replace(/\$\{\{(.*?)\}\}/gs, (_whole, expression: string) => evaluate(expression.trim(), contexts));
}

function evaluate(expression: string, contexts: Contexts): string {
  try {
    const { tokens } = new Lexer(expression).lex();
    const tree = new Parser(tokens, Object.keys(contexts), []).parse();
    const found = new Evaluator(tree, toDictionary(contexts)).evaluate();
    const plain = /^([a-z]+)\.([a-z_]+)$/.exec(expression);
    if (plain && contexts[plain[1] ?? '']?.[plain[2] ?? ''] === undefined) throw new Error('no such value');
    if (!found.primitive) throw new Error('not a text');
    return found.coerceString();
  } catch (error) {
    throw new HarnessError(
      `the harness cannot evaluate \${{ ${expression} }}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

function toDictionary(contexts: Contexts): data.Dictionary {
  return new data.Dictionary(
    ...Object.entries(contexts).map(([name, values]) => ({
      key: name,
      value: new data.Dictionary(
        ...Object.entries(values).map(([key, value]) => ({ key, value: new data.StringData(value) })),
      ),
    })),
  );
}
