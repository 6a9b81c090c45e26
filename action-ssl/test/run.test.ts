import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { RequestError } from '#shared/errors';
import type { CertificatePorts, Dns, ReadServedChain } from '#shared/ports';
import { FakeClock } from '../../shared/test/fakes/clock';
import { FakeReporter } from '../../shared/test/fakes/reporter';
import { INTERMEDIATE, LEAF, ROOT } from '../../shared/test/tls/sample-certificates';
import { run } from '../src/run';

const action = parse(readFileSync(join(import.meta.dirname, '..', 'action.yml'), 'utf8')) as {
  readonly inputs: Readonly<Record<string, { readonly default?: string }>>;
};

const dns: Dns = {
  addresses: (_, family) =>
    Promise.resolve({ kind: 'records', records: [family === 4 ? '203.0.113.7' : '2001:db8::7'] }),
  caa: () => Promise.resolve({ kind: 'none' }),
};

/** `check` without `host`, as in the README. */
async function checkFromOutside(readServedChain: ReadServedChain, inputs: Readonly<Record<string, string>> = {}) {
  const outputs: Record<string, string> = {};
  const reporter = new FakeReporter();
  const all: Readonly<Record<string, string>> = { mode: 'check', domains: 'shop.example', ...inputs };
  const ports = {
    runner: {
      input: (name: string) => (all[name] ?? action.inputs[name]?.default ?? '').trim(),
      setOutput: (name: string, value: string) => void (outputs[name] = value),
    },
    reporter,
    clock: new FakeClock('2026-12-01T12:00:00Z'),
    signal: new AbortController().signal,
    openDns: () => dns,
    readServedChain,
    trustedRoots: [ROOT],
  } as unknown as CertificatePorts;
  const error = await run(ports).then(
    () => '',
    (thrown: unknown) => (thrown as Error).message,
  );
  return { error, outputs, shown: reporter.shown };
}

test('check from a runner without IPv6: what it cannot look at is a warning', async () => {
  const { error, outputs, shown } = await checkFromOutside(({ host }) =>
    host.includes(':')
      ? Promise.reject(new RequestError('unreachable', `[${host}]:443 cannot be reached from here`, ''))
      : Promise.resolve([LEAF, INTERMEDIATE]),
  );
  expect(error).toBe('');
  expect(outputs).toMatchObject({ result: 'checked', served: 'true' });
  expect(shown).toContainEqual(expect.stringMatching(/^warning .*2001:db8::7 was not looked at/));
});
