/**
 * Every file in `cases/` is one deploy: what is wanted and what is there (`project`, `before`, `containers`, `networks`),
 * and what is done about it (`expected`). To add one, copy a file, change its facts, set `expected` to null, and run this
 * test: it fails and prints what is planned. Read that, and put it in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { startServices } from '#shared/commands/compose';
import { readProject, type JsonObject } from '#shared/compose/project';
import { type Json, readMember } from '#shared/json';
import type { Command } from '#shared/model/command';
import type { Step, UndoVerb } from '#shared/model/step';
import type { ContainerState } from '#shared/probes/container';
import { layoutStore, releaseComposeFile } from '#shared/releases/layout';
import { parseJournal, planUndo, renderJournal } from '#shared/releases/journal';
import { renderCommand } from '#shared/shell/render';
import { changedServices, describeChanges, isUnchanged, planDeploy, type DeployPlan } from '../src/plan';

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
    name: `shop-${over.service}-1`,
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
    ...over,
  };
}

function plan({ project, before, containers, networks, released, remarks = {} }: Case): DeployPlan {
  const read = readProject(project);
  const served = readMember(before ?? undefined, 'services') ?? {};
  return planDeploy({
    project: read,
    hashes: Object.fromEntries(read.services.map(({ name }) => [name, 'new'])),
    facts: { containers: containers.map(container), networks },
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
  if (step.kind === 'hold') {
    return `${step.id}: ${step.title} (${step.timeoutSeconds} s)`;
  }
  return `${step.id}: ${describeCommand(step.do)} (${step.timeoutSeconds} s)`;
}

/** `R/compose.yaml create ... web` for the script that makes services and starts them. */
function describeCommand(command: Command): string {
  const text = renderCommand(command);
  if (text.startsWith(COMPOSE)) return text.slice(COMPOSE.length);
  const { words } = command;
  const start = words.indexOf('docker');
  const services = words.slice(words.indexOf('slipway') + 4, start - 1);
  const release = /releases\/(.*)\/compose.yaml$/.exec(words[words.indexOf('--file') + 1] ?? '')?.[1] ?? '';
  expect(command).toEqual(startServices(target, releaseComposeFile(layout, release), services));
  return `${release}/compose.yaml ${words.slice(words.indexOf('create')).join(' ')} ${services.join(' ')}; start`;
}

function describeVerb(verb: UndoVerb): string {
  switch (verb.verb) {
    case 'restore-services': {
      const awaited = verb.awaited.length === 0 ? '' : `, waiting for ${verb.awaited.join(' ')}`;
      return `${verb.verb} ${verb.services.join(' ')} of ${verb.release}${awaited}`;
    }
    case 'remove-services':
      return `${verb.verb} ${verb.services.join(' ')}`;
    case 'remove-networks':
      return `${verb.verb} ${verb.networks.join(' ')}`;
  }
}

/** The plan as a case shows it. */
function show(made: DeployPlan): unknown {
  return {
    services: made.services.map(({ service, action, reasons }) => [service, action, ...reasons].join(' | ')),
    steps: made.steps.map(describeStep),
    undo: planUndo(made.steps).map(describeVerb),
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

  test('no value is in the plan, its steps have names of their own, and its way back can be read from a journal', () => {
    const made = plan(one);
    expect(JSON.stringify(made)).not.toContain('SENTINEL');
    const ids = made.steps.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const journal = {
      project: target.project,
      release: RELEASE,
      previous: made.previous ?? '',
      runUrl: '',
      actor: '',
      timeoutSeconds: 180,
      undo: planUndo(made.steps),
    };
    expect(parseJournal(renderJournal(journal))).toEqual(journal);
  });

  test('the services that change are those that are waited for', () => {
    const made = plan(one);
    const awaited = made.steps.flatMap((step) =>
      step.kind === 'hold' && step.gate.gate === 'ready' ? step.gate.services : [],
    );
    expect([...awaited, ...made.removed].sort()).toEqual(changedServices(made).sort());
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
});

test('containers that no release knows stay, and do not count as a change', () => {
  const made = plan(readCase('unknown.json'));
  expect(made.services.map(({ service }) => service)).not.toContain('stray');
  expect(changedServices(made)).not.toContain('stray');
});
