/** Questions to DNS servers. */
import { Resolver } from 'node:dns/promises';
import type { CaaRecord, Dns, DnsAnswer } from '../ports';
import { field } from './foreign-error';

/** The name does not exist, or has no record of this type. */
const NONE = ['ENOTFOUND', 'ENODATA'];

const REASONS: ReadonlyMap<unknown, string> = new Map([
  ['ESERVFAIL', 'its servers fail (SERVFAIL): is the zone signed with DNSSEC and broken, or not delegated?'],
  ['EREFUSED', 'the DNS server refuses the question'],
  ['ETIMEOUT', 'no answer from the DNS server'],
  ['ECONNREFUSED', 'the DNS server cannot be reached'],
]);

export function openDns(servers: readonly string[]): Dns {
  const resolver = new Resolver({ timeout: 3000, tries: 3 });
  if (servers.length > 0) resolver.setServers(servers);
  return {
    addresses: (name, family) => ask(() => (family === 4 ? resolver.resolve4(name) : resolver.resolve6(name))),
    caa: (name) => ask(async () => (await resolver.resolveCaa(name)).map(readCaa)),
  };
}

/** Node gives `{ critical: 0, issue: 'letsencrypt.org' }`: the tag is a key. */
function readCaa(record: object): CaaRecord {
  const tag = Object.keys(record).find((key) => key !== 'critical' && key !== 'type') ?? '';
  return { critical: Number(field(record, 'critical')) !== 0, tag, value: String(field(record, tag)) };
}

async function ask<T>(question: () => Promise<readonly T[]>): Promise<DnsAnswer<T>> {
  try {
    const records = await question();
    return records.length === 0 ? { kind: 'none' } : { kind: 'records', records };
  } catch (error) {
    const code = field(error, 'code');
    if (NONE.includes(String(code))) return { kind: 'none' };
    return { kind: 'failed', reason: REASONS.get(code) ?? `no usable answer (${String(code)})` };
  }
}
