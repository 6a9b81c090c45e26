/** The YAML blocks of the documents as whole files: what stands there alone is put where a reader would put it. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { type Block, readDocument, ROOT } from './markdown.ts';

export interface Example {
  /** `checks` are those of action-health-check. */
  readonly kind: 'workflow' | 'compose' | 'checks';
  readonly document: string;
  readonly text: string;
}

interface Manifest {
  readonly inputs?: Readonly<Record<string, { readonly required?: boolean; readonly default?: unknown }>>;
}

const ACTIONS = readdirSync(ROOT).filter((name) => existsSync(join(ROOT, name, 'action.yml')));

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @throws Error for a shape that is none of them */
export function exampleOf(block: Block): Example {
  const { document } = block;
  const text = dedent(block.text);
  const value: unknown = parse(text);
  const workflow = (whole: string): Example => ({ kind: 'workflow', document, text: whole });
  const job = (lines: string): string =>
    `on: push\njobs:\n  example:\n    runs-on: ubuntu-latest\n${indent(lines, '    ')}`;
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value;
    if (items.every((item) => isMapping(item) && ('uses' in item || 'run' in item))) {
      return workflow(job(`steps:\n${indent(text, '  ')}`));
    }
    if (items.every((item) => isMapping(item) && CHECKS.some((key) => key in item)))
      return { kind: 'checks', document, text };
  }
  if (isMapping(value)) {
    const keys = Object.keys(value);
    if ('jobs' in value) return workflow('on' in value ? text : `on: push\n${text}`);
    if ('services' in value) return { kind: 'compose', document, text };
    if (keys.every((key) => ['runs-on', 'uses'].some((word) => isMapping(value[key]) && word in value[key]))) {
      return workflow(`on: push\njobs:\n${indent(text, '  ')}`);
    }
    if (keys.every((key) => OF_A_JOB.includes(key))) return workflow(job(`${text}\nsteps: [{ run: 'true' }]`));
    if (keys.every((key) => OF_A_SERVICE.includes(key))) {
      return { kind: 'compose', document, text: `services:\n  example:\n    image: example\n${indent(text, '    ')}` };
    }
    const action = actionWith(keys, document);
    if (action !== undefined) {
      const missing = Object.entries(inputsOf(action)).filter(
        ([name, { required }]) => required === true && !(name in value),
      );
      const given = missing.map(([name]) => `${name}: x`).join('\n');
      const inputs = indent(`${text}\n${given}`, '      ');
      return workflow(job(`steps:\n  - uses: your-org/slipway/${action}@v1\n    with:\n${inputs}`));
    }
  }
  throw new Error(
    `${document}: this YAML is neither a workflow, nor a Compose file, nor a part of one:\n${block.text}`,
  );
}

const CHECKS = ['url', 'tcp', 'tls', 'container', 'command'];
const OF_A_JOB = ['environment', 'permissions', 'concurrency', 'timeout-minutes'];
const OF_A_SERVICE = ['x-slipway', 'volumes', 'ports', 'deploy', 'healthcheck', 'update_config'];

const inputsOf = (action: string): NonNullable<Manifest['inputs']> =>
  (parse(readDocument(join(action, 'action.yml'))) as Manifest).inputs ?? {};

/** Whose inputs these are: the document's own action first. */
function actionWith(keys: readonly string[], document: string): string | undefined {
  const own = ACTIONS.filter((action) => document.startsWith(`${action}/`));
  return [...own, 'action-deploy', ...ACTIONS].find((action) => keys.every((key) => key in inputsOf(action)));
}

const indent = (text: string, by: string): string => text.replaceAll(/^(?=.)/gm, by);

function dedent(text: string): string {
  const by = Math.min(...[...text.matchAll(/^ *(?=[^ \n])/gm)].map(([blanks]) => blanks.length));
  return text.replaceAll(new RegExp(`^ {${by}}`, 'gm'), '');
}
