/**
 * Every file in `cases/` is one deploy: what is wanted and what is there (`project`, `before`, `containers`, `networks`),
 * and what is done about it (`expected`). To add one, copy a file, change its facts, set `expected` to null, and run this
 * test: it fails and prints what is planned. Read that, and put it in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { readProject, type JsonObject } from '../../src/compose/project';
import { renderJournal } from '../../src/guardian/journal';
import { renderVerb } from '../../src/guardian/verbs';
import { type Json, readMember } from '../../src/json';
import type { Command } from '../../src/model/command';
import type { Gate, Step } from '../../src/model/step';
import type { ContainerState } from '../../src/probes/container';
import { layoutStore } from '../../src/releases/layout';
import { chooseStrategies } from '../../src/strategies/choose';
import {
  changedServices,
  describeChanges,
  isUnchanged,
  type Migration,
  planDeploy,
  servicesWithOutage,
  type DeployPlan,
} from '../../src/transaction/plan';

interface Case {
  readonly about: string;
  readonly project: JsonObject;
  /** The release that serves; null for a first deploy. */
  readonly before: Json;
  /** A hash other than `new` is what the file does not say. */
  readonly containers: readonly (Partial<ContainerState> & { readonly service: string })[];
  readonly networks: readonly string[];
  /** Services that any release of the store has; those of the release that serves, unless it says more. */
  readonly released?: readonly string[];
  readonly remarks?: Readonly<Record<string, string>>;
  readonly migrations?: readonly Migration[];
  /** By router: whether its nginx resolves names again. */
  readonly resolve?: Readonly<Record<string, boolean>>;
  readonly expected: unknown;
}

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const layout = layoutStore('/srv/shop');
const target = { project: 'shop', projectDirectory: '/srv/shop' };
const folder = new URL('./cases/', import.meta.url);
const names = readdirSync(folder).sort();

function readCase(name: string): Case {
  return JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Case;
}

function container(over: Case['containers'][number], index: number): ContainerState {
  return {
    id: `c${index}`,
    name: `shop-${over.service}-${over.number ?? 1}`,
    project: 'shop',
    image: '',
    imageId: '',
    state: 'running',
    health: 'none',
    healthLog: [],
    exitCode: 0,
    oomKilled: false,
    error: '',
    restartCount: 0,
    startedAt: '',
    configHash: 'new',
    number: 1,
    oneoff: false,
    mounts: [],
    restartPolicy: 'no',
    ...over,
  };
}

function plan(one: Case): DeployPlan {
  const { project, before, networks, released, remarks = {}, migrations = [], resolve = {} } = one;
  const containers = one.containers.map(container);
  const read = readProject(project);
  const served = readMember(before ?? undefined, 'services') ?? {};
  return planDeploy({
    project: read,
    hashes: Object.fromEntries(read.services.map(({ name }) => [name, 'new'])),
    facts: { containers, networks },
    strategies: chooseStrategies(read, containers).strategies,
    resolve,
    migrations,
    before: before ?? undefined,
    previous: before === null ? undefined : PREVIOUS,
    released: new Set(released ?? Object.keys(served)),
    release: RELEASE,
    target,
    layout,
    readyTimeoutSeconds: 120,
    remarks,
  });
}

const COMPOSE =
  'docker compose --ansi never --project-name shop --project-directory /srv/shop --file /srv/shop/.slipway/releases/';

function describeStep(step: Step): string {
  const end = ` (${step.timeoutSeconds} s)`;
  switch (step.kind) {
    case 'run':
      return `${step.id}: ${describeCommand(step.do)}${step.onAbort === 'finish' ? '; not cut off' : ''}${end}`;
    case 'route':
      return `${step.id}: ${step.upstreams
        .map(
          ({ service, port, before, staying, retiring }) =>
            `${service}:${port} ${before.join(',') || 'nothing'} -> ${[...staying, 'new'].join(',')}${retiring.length === 0 ? '' : ` or else ${retiring.join(',')}`}`,
        )
        .join('; ')}${step.resolve ? '' : ', names resolved once'}${end}`;
    case 'hold':
      return `${step.id}: ${step.title}${describeStarted(step.gate)}${end}`;
  }
}

function describeStarted(gate: Gate): string {
  if (gate.gate !== 'ready' || gate.started === undefined) return '';
  return Object.entries(gate.started)
    .map(([service, count]) => `, ${count} of ${service}`)
    .join('');
}

/** The arguments of a script, which commands/compose.test.ts runs; or the command that it is. */
function describeCommand({ words }: Command): string {
  const all = words.join(' ').replaceAll(COMPOSE, '');
  if (words[0] !== 'sh') return all;
  return words
    .slice(4)
    .map((word) => (word === '' ? "''" : word))
    .join(' ')
    .replaceAll(COMPOSE, '');
}

/** The plan as a case shows it. */
function show(made: DeployPlan): unknown {
  return {
    services: made.services.map(({ service, action, strategy, reasons }) =>
      [service, action === 'replace' ? `${action} ${strategy.order}` : action, ...reasons].join(' | '),
    ),
    steps: made.steps.map(describeStep),
    undo: made.undo.map((verb) => renderVerb(verb, target.project)),
    finish: made.finish.map((verb) => renderVerb(verb, target.project)),
    retired: made.retired,
    removed: made.removed,
    unknown: made.unknown,
  };
}

test('there are cases', () => {
  expect(names.length).toBeGreaterThan(9);
});

describe.each(names)('%s', (name) => {
  const one = readCase(name);

  test(one.about, () => {
    expect(show(plan(one))).toEqual(one.expected);
  });

  test('no value is in the plan, its steps have names of their own, and its two ways out fit into a journal', () => {
    const made = plan(one);
    expect(JSON.stringify(made)).not.toContain('SENTINEL');
    const ids = made.steps.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const { undo, finish } = made;
    const journal = renderJournal({ project: target.project, release: RELEASE, limitSeconds: 180, undo, finish });
    expect(journal.split('\n').filter((line) => /^(undo|finish) /.test(line))).toHaveLength(
      undo.length + finish.length,
    );
  });

  test('the services that change are those that are waited for', () => {
    const made = plan(one);
    // A service that starts in groups is waited for after each.
    const awaited = [
      ...new Set(
        made.steps.flatMap((step) => (step.kind === 'hold' && step.gate.gate === 'ready' ? step.gate.services : [])),
      ),
    ];
    // Of those with fewer replicas than before, all that stay are ready already.
    const fewer = made.services
      .filter(({ service, action, replicas }) => action === 'scale' && (made.before[service]?.length ?? 0) > replicas)
      .map(({ service }) => service);
    expect([...awaited, ...fewer, ...made.removed].sort()).toEqual(changedServices(made).sort());
    expect(isUnchanged(made)).toBe(changedServices(made).length === 0);
    if (awaited.length > 0) expect(made.steps.at(-1)?.id).toBe('prove');
  });
});

test('images before and after, and what has data', () => {
  expect(plan(readCase('replace-one.json')).services).toMatchObject([
    { service: 'web', stateful: false, imageBefore: 'web:1', imageAfter: 'web:2', replicas: 1 },
    { service: 'db', stateful: true, imageBefore: 'postgres:17', imageAfter: 'postgres:17' },
  ]);
  expect(plan(readCase('remove.json')).services[1]).toMatchObject({
    service: 'old',
    imageBefore: 'old:1',
    imageAfter: undefined,
    replicas: 0,
  });
});

test('what was done, in words, for the log', () => {
  expect(describeChanges(plan(readCase('remove.json')))).toBe('replaced web; removed old');
  expect(describeChanges(plan(readCase('new-network.json')))).toBe('created web; replaced db');
  expect(describeChanges(plan(readCase('start-again.json')))).toBe('started web, worker, migrate');
  expect(describeChanges(plan(readCase('nothing-changed.json')))).toBe('');
  expect(describeChanges(plan(readCase('routed-scale.json')))).toBe('scaled api, shop');
});

test('containers that no release knows stay, and do not count as a change', () => {
  const made = plan(readCase('unknown.json'));
  expect(made.services.map(({ service }) => service)).not.toContain('stray');
  expect(changedServices(made)).not.toContain('stray');
});

test('who is away for a moment: what is stopped before its successor starts', () => {
  expect(servicesWithOutage(plan(readCase('routed-replace.json')))).toEqual([]);
  expect(servicesWithOutage(plan(readCase('first-deploy.json')))).toEqual([]);
  expect(servicesWithOutage(plan(readCase('in-place.json')))).toEqual(['db', 'cache', 'queue']);
});
