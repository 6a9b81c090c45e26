/** The reusable workflows, the actions that they call and the documentation say the same. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderWorkflow } from '../scripts/docs.mjs';
import { parseManifest } from './e2e/harness/action-manifest.ts';
import { validateFile } from './e2e/harness/github-language.ts';
import { findFaults } from './workflows/rules.ts';
import { surroundingsOf } from './workflows/surroundings.ts';
import { asText, Expression, type Json, type Template } from './workflows/template.ts';
import { readWorkflow, type Workflow, type WorkflowStep } from './workflows/workflow.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const FILES = readdirSync(join(ROOT, '.github/workflows')).filter((name) => /^[^.].*\.yml$/.test(name));

/** Inputs of our actions that a reusable workflow does not have, and why. */
const LEFT_OUT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '*': { lease: 'the default suits every runner' },
  'plan.yml': {
    '*': 'it only plans',
  },
  'rollback.yml': {
    list: 'an empty release lists',
    registry: 'the images are on the server; where somebody removed them, use the action',
    'registry-username': 'as registry',
    'registry-password': 'as registry',
  },
  'backup.yml': {
    only: 'a restore is a decision of people: use the action',
    confirm: 'as only',
    'restore-files': 'as only',
    'dry-run': 'as only',
  },
  'health.yml': {
    backoff: 'a schedule comes again',
    deadline: 'the attempts bound it',
  },
  'ssl.yml': {
    '*': 'what is seldom needed is in the action',
  },
};

/** Where a workflow's default is not the action's, and why. */
const OTHER_DEFAULTS: Readonly<Record<string, string>> = {
  'deploy.yml registry': 'the image is built for it, too',
  'plan.yml registry': 'as deploy.yml',
  'ssl.yml mode': 'a schedule renews',
};

interface Call {
  readonly step: WorkflowStep;
  readonly action: string;
}

const load = (name: string): Promise<Workflow> => readWorkflow(name, read(`.github/workflows/${name}`));
const callsOf = ({ jobs }: Workflow): Call[] =>
  jobs.flatMap((job) =>
    job.kind === 'call'
      ? []
      : job.steps.flatMap((step) => {
          const action = /^\$\/(action-[\w-]+)$/.exec(step.uses ?? '')?.[1];
          return action === undefined ? [] : [{ step, action }];
        }),
  );
const manifestOf = (action: string) => parseManifest(read(`${action}/action.yml`), action);

describe.each(FILES)('%s', (name) => {
  test("an input has the default of the action's input that it becomes", async () => {
    const workflow = await load(name);
    const different = callsOf(workflow).flatMap(({ step, action }) => {
      const inputs = new Map(manifestOf(action).inputs.map((input) => [input.name, input]));
      return Object.entries(step.with).flatMap(([input, value]) => {
        const source = value instanceof Expression ? /^inputs\.([\w-]+)$/.exec(value.source)?.[1] : undefined;
        const declared = source === undefined ? undefined : workflow.call?.inputs[source];
        if (source === undefined || declared === undefined || declared.required) return [];
        const [here, there] = [asText(declared.default as Json | undefined), inputs.get(input)?.default ?? ''];
        return here === there || `${name} ${source}` in OTHER_DEFAULTS
          ? []
          : [`${source} is ${JSON.stringify(here)}, and ${input} of ${action} is ${JSON.stringify(there)}`];
      });
    });
    expect([...new Set(different)]).toEqual([]);
  });

  test('every input of the actions that it calls can be given, or is left out for a reason', async () => {
    const calls = callsOf(await load(name));
    const leftOut = { ...LEFT_OUT['*'], ...LEFT_OUT[name] };
    for (const action of new Set(calls.map((call) => call.action))) {
      const given = new Set(
        calls.filter((call) => call.action === action).flatMap(({ step }) => Object.keys(step.with)),
      );
      const missing = manifestOf(action)
        .inputs.map((input) => input.name)
        .filter((input) => !given.has(input) && !(input in leftOut) && !('*' in leftOut));
      // The last look from outside is made without the server.
      if (!(name === 'deploy.yml' && action === 'action-health-check')) expect(missing).toEqual([]);
    }
  });

  test('its outputs are those that its steps have', async () => {
    const workflow = await load(name);
    const sources = workflow.jobs.flatMap((job) => (job.kind === 'call' ? [] : Object.values(job.outputs)));
    const actions = new Map(callsOf(workflow).map(({ step, action }) => [step.id, action]));
    for (const { source } of sources.filter((one: Template) => one instanceof Expression)) {
      for (const [, id = '', output = ''] of source.matchAll(/steps\.([\w-]+)\.outputs\.([\w-]+)/g)) {
        const action = actions.get(id);
        if (action !== undefined) expect(manifestOf(action).outputs.map((one) => one.name)).toContain(output);
      }
    }
  });

  test('infra/docs/WORKFLOWS.md has its tables', () => {
    expect(read('infra/docs/WORKFLOWS.md')).toContain(renderWorkflow(read(`.github/workflows/${name}`)));
  });
});

test('the tables have what a caller gives and gets', () => {
  const rendered = renderWorkflow(`
on:
  workflow_call:
    inputs: { host: { description: The server, type: string, required: true }, port: { description: Its port, type: string, default: '22' } }
    secrets: { KEY: { description: Its key, required: true } }
    outputs: { release: { description: What serves, value: x } }
jobs:
  a: { permissions: { contents: write } }
  b: { permissions: { contents: read, issues: write } }
`);
  expect(rendered).toContain('Permissions: `{ contents: write, issues: write }`');
  expect(rendered).toContain('| `host` | **required** | The server |');
  expect(rendered).toContain('| `port` | `22` | Its port |');
  expect(rendered).toContain('| `KEY` | **required** | Its key |');
  expect(rendered).toContain('| `release` | What serves |');
});

describe('MIGRATING.md', () => {
  const text = read('infra/docs/MIGRATING.md');
  const workflows = [...text.matchAll(/^```yaml\n([^]*?)^```$/gm)].map((match) => match[1] ?? '');

  test('its workflows are whole ones; ours keeps our rules', async () => {
    expect(workflows).toHaveLength(2);
    const [before = '', after = ''] = workflows;
    const path = '.github/workflows/deploy.yml';
    const exists = (one: string): boolean => existsSync(join(ROOT, one));
    expect(await validateFile(path, before)).toEqual([]);
    expect(await validateFile(path, after, surroundingsOf(ROOT))).toEqual([]);
    expect(findFaults(await readWorkflow(path, after), { exists, isReusable: false })).toEqual([]);
  });
});

describe.each(['MIGRATING.md', 'WORKFLOWS.md'])('%s', (name) => {
  test('no link of it is dead', () => {
    const anchorsOf = (document: string): string[] =>
      [...document.matchAll(/^#+ (.*)$/gm)].map((match) =>
        (match[1] ?? '')
          .toLowerCase()
          .replaceAll(/[^\w\s-]/g, '')
          .trim()
          .replaceAll(/\s/g, '-'),
      );
    const dead = [...read(`infra/docs/${name}`).matchAll(/\]\((?!https:)([^)\s]+)\)/g)].flatMap(([, link = '']) => {
      const [path = '', anchor] = link.split('#');
      const file = path === '' ? `infra/docs/${name}` : join('infra/docs', path);
      if (!existsSync(join(ROOT, file))) return [link];
      return anchor === undefined || anchorsOf(read(file)).includes(anchor) ? [] : [link];
    });
    expect(dead).toEqual([]);
  });
});

test('every file to copy is in the documentation, and the other way round', () => {
  const document = read('infra/docs/WORKFLOWS.md');
  const names = readdirSync(join(ROOT, 'infra/workflows')).filter((name) => name.endsWith('.yml'));
  const callers = names.map((name) => `infra/workflows/${name}`);
  const linked = [...document.matchAll(/\]\(\.\.\/workflows\/([\w-]+\.yml)\)/g)].map(
    (match) => `infra/workflows/${match[1] ?? ''}`,
  );
  expect([...new Set(linked)].sort()).toEqual(callers.sort());
});
