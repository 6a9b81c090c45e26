/** The alert rules and their tests as data, for the tests that hold them together. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';

export const MONITORING = fileURLToPath(new URL('../', import.meta.url));

export interface Rule {
  readonly file: string;
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface RuleCase {
  readonly file: string;
  readonly name: string;
  readonly alert: string;
  /** The labels of each alert that fires; empty where none does. */
  readonly firing: readonly (readonly string[])[];
}

interface RuleFile {
  readonly groups: readonly { readonly rules: readonly (Partial<Rule> & { readonly record?: string })[] }[];
}

interface TestFile {
  readonly tests: readonly {
    readonly name: string;
    readonly promql_expr_test: readonly {
      readonly expr: string;
      readonly exp_samples: readonly { labels: string }[];
    }[];
  }[];
}

export async function listYaml(folder: string): Promise<string[]> {
  return (await readdir(join(MONITORING, folder))).filter((name) => name.endsWith('.yml')).sort();
}

const read = async (...path: readonly string[]): Promise<unknown> =>
  parse(await readFile(join(MONITORING, ...path), 'utf8'));

export async function readRules(): Promise<Rule[]> {
  const files = await Promise.all(
    (await listYaml('prometheus/rules')).map(async (name) => {
      const { groups } = (await read('prometheus/rules', name)) as RuleFile;
      return groups
        .flatMap(({ rules }) => rules)
        .filter((rule) => rule.record === undefined)
        .map((rule) => ({ ...rule, file: basename(name, '.yml') }) as Rule);
    }),
  );
  return files.flat();
}

export async function readCases(): Promise<RuleCase[]> {
  const files = await Promise.all(
    (await listYaml('prometheus/tests')).map(async (name) => {
      const { tests } = (await read('prometheus/tests', name)) as TestFile;
      return tests.flatMap((test) =>
        test.promql_expr_test.map(({ expr, exp_samples: samples }) => ({
          file: basename(name, '.yml'),
          name: test.name,
          alert: /^ALERTS\{alertname="(\w+)", alertstate="firing"\}$/.exec(expr)?.[1] ?? `not an alert: ${expr}`,
          firing: samples.map(({ labels }) => [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label ?? '')),
        })),
      );
    }),
  );
  return files.flat();
}
