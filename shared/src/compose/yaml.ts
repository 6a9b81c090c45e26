import { parse, stringify } from 'yaml';
import type { Json } from '../json';

/** As YAML that reads the same under YAML 1.1 and 1.2: every text is quoted, so that `on`, `1e3` or `0777` stay texts. */
export function renderYaml(value: Json): string {
  return stringify(value, { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'PLAIN', lineWidth: 0, version: '1.1' });
}

/** @throws YAMLParseError; its message quotes the source. */
export function parseYaml(text: string): Json {
  // Compose reads `<<` merges; aliases are bounded by the library against exponential growth.
  return parse(text, { merge: true }) as Json;
}
