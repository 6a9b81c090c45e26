/** JSON as it comes from servers: typed, and read without trusting its shape. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** @returns undefined for text that is not JSON. */
export function parseJson(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** The member of an object or the item of a list, or undefined where there is none. Inherited names (`constructor`) are none. */
export function readMember(value: Json | undefined, key: string | number): Json | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (isList(value)) return typeof key === 'number' ? value[key] : undefined;
  return Object.hasOwn(value, key) ? value[String(key)] : undefined;
}

/** The text at a path of keys; empty where there is none. */
export function readText(value: Json | undefined, ...keys: readonly string[]): string {
  const found = keys.reduce<Json | undefined>(readMember, value);
  return typeof found === 'string' ? found : '';
}

/** The number at a path of keys; 0 where there is none. */
export function readNumber(value: Json | undefined, ...keys: readonly string[]): number {
  const found = keys.reduce<Json | undefined>(readMember, value);
  return typeof found === 'number' ? found : 0;
}

/** The list at a path of keys; empty where there is none. */
export function readList(value: Json | undefined, ...keys: readonly string[]): readonly Json[] {
  const found = keys.reduce<Json | undefined>(readMember, value);
  return isList(found) ? found : [];
}

function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** Keys of objects and positions in lists: `checks.postgres[0].status` is `['checks', 'postgres', 0, 'status']`. */
export type JsonPath = readonly (string | number)[];

const PATH_PART = /(?:^|\.)([^.[\]"]+)|\[(\d{1,6})\]|\["([^"\]]*)"\]/y;

/**
 * The path syntax of the `json` expectation: names joined by dots, positions in brackets, other names in brackets and
 * quotes (`["a.b"]`), an optional leading `$` or dot (as jq has it). It is our own because a health document needs no more, and full JSONPath
 * brings filters that match nothing without saying so, and a dependency.
 *
 * @returns undefined for text that is not a path.
 */
export function parseJsonPath(text: string): JsonPath | undefined {
  const body = text.startsWith('$.') ? text.slice(2) : text.startsWith('$[') ? text.slice(1) : text;
  if (body === '' || body.length > 500) return undefined;
  const path: (string | number)[] = [];
  PATH_PART.lastIndex = 0;
  while (PATH_PART.lastIndex < body.length) {
    const match = PATH_PART.exec(body);
    if (match === null) return undefined;
    const [, name, position, quoted] = match;
    path.push(name ?? (position === undefined ? (quoted ?? '') : Number(position)));
  }
  return path;
}

/** What stands at a path, or undefined. */
export function readPath(value: Json, path: JsonPath): Json | undefined {
  return path.reduce<Json | undefined>(readMember, value);
}
