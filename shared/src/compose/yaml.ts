import { Document, isScalar, parse, visit } from 'yaml';
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
