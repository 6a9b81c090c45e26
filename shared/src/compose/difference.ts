/** Why a service differs from the release that runs: names of what changed, never a value (values may be secrets). */
import { type Json, readText } from '../json';
import { isObject, type JsonObject } from './project';
import { CONTENT_LABEL } from './rewrite';

const NAMED_MEMBERS = new Set([
  'environment',
  'labels',
  'networks',
  'depends_on',
  'configs',
  'secrets',
  'sysctls',
  'ulimits',
  'extra_hosts',
  'annotations',
]);

/** `['image', 'environment LOG_LEVEL', 'file nginx']`; empty when nothing differs. */
export function explainDifference(before: Json, after: Json): string[] {
  if (!isObject(before) || !isObject(after)) return ['definition'];
  return changedKeys(before, after).flatMap((key) => {
    const [was, is] = [before[key], after[key]];
    if (NAMED_MEMBERS.has(key) && isObject(was ?? {}) && isObject(is ?? {})) {
      return changedKeys((was ?? {}) as JsonObject, (is ?? {}) as JsonObject).map((name) =>
        name === CONTENT_LABEL ? 'what its configs or secrets hold' : `${key} ${name}`,
      );
    }
    if (key === 'volumes') return explainMounts(was, is);
    return [key];
  });
}

function changedKeys(before: JsonObject, after: JsonObject): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((key) => canonical(before[key]) !== canonical(after[key]))
    .sort();
}

/** A mount of a shipped file has its content's address in its source, so a changed source below `.slipway/files` is a changed file. */
function explainMounts(before: Json | undefined, after: Json | undefined): string[] {
  const was = mountsByTarget(before);
  const is = mountsByTarget(after);
  return [...new Set([...was.keys(), ...is.keys()])].sort().flatMap((target) => {
    const [old, now] = [was.get(target), is.get(target)];
    if (canonical(old) === canonical(now)) return [];
    const source = now?.['source'];
    if (old !== undefined && typeof source === 'string' && source.includes('/.slipway/files/')) {
      return [`file ${source.split('/').at(-1) ?? target}`];
    }
    return [`volume ${target}`];
  });
}

function mountsByTarget(mounts: Json | undefined): Map<string, JsonObject> {
  const entries = Array.isArray(mounts) ? (mounts as readonly Json[]).filter(isObject) : [];
  return new Map(entries.map((mount) => [readText(mount, 'target'), mount]));
}

/** Equal for equal values, whatever the order of their keys. */
export function canonical(value: Json | undefined): string {
  if (value === undefined) return '';
  return JSON.stringify(value, (_key, member: Json) =>
    isObject(member) ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1))) : member,
  );
}
