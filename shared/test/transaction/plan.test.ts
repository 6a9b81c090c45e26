/** What must hold for every plan: played through on a model of the containers, for any project and any facts. */
import fc from 'fast-check';
import { readProject } from '../../src/compose/project';
import type { Json } from '../../src/json';
import type { FinishVerb, Step, UndoVerb } from '../../src/model/step';
import type { ContainerState } from '../../src/probes/container';
import { layoutStore } from '../../src/releases/layout';
import { chooseStrategies } from '../../src/strategies/choose';
import { planDeploy, type DeployPlan } from '../../src/transaction/plan';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';

interface Replica {
  readonly id: string;
  readonly service: string;
  readonly image: string;
  running: boolean;
  /** Stopped by hand: a boot brings it back with the policy `always` only. */
  stopped: boolean;
  restart: string;
}

/** The containers of a server, and what a plan's scripts do to them (commands/compose.test.ts runs the scripts themselves). */
class Model {
  replicas: Replica[];
  readonly #images: Readonly<Record<string, string>>;
  readonly #wanted: ReadonlyMap<string, number>;
  readonly #there: readonly ContainerState[];
  #made = 0;

  readonly #stopFirst: ReadonlySet<string>;

  constructor(containers: readonly ContainerState[], images: Readonly<Record<string, string>>, plan?: DeployPlan) {
    this.#stopFirst = new Set(
      (plan?.services ?? []).filter(({ strategy }) => strategy.order === 'stop-first').map(({ service }) => service),
    );
    this.#images = images;
    this.#wanted = new Map(plan?.services.map(({ service: name, replicas }) => [name, replicas]));
    this.#there = containers;
    this.replicas = containers.map(({ id, service, image, state, restartPolicy = 'no' }) => ({
      id,
      service,
      image,
      running: state === 'running',
      // Who knows; so that a boot surely brings back what ran, and of the rest what is `always` there.
      stopped: state !== 'running',
      restart: restartPolicy,
    }));
  }

  #of(service: string): Replica[] {
    return this.replicas.filter((replica) => replica.service === service);
  }

  #added(service: string, before: readonly string[]): Replica[] {
    return this.#of(service).filter(({ id }) => !before.includes(id));
  }

  #set(ids: readonly string[], change: (replica: Replica) => void): void {
    for (const replica of this.replicas) if (ids.includes(replica.id)) change(replica);
  }

  #make(service: string, image: string, restart = 'no'): void {
    this.replicas.push({ id: `new${++this.#made}`, service, image, running: false, stopped: false, restart });
  }

  #recreate(
    names: readonly string[],
    images: Readonly<Record<string, string>>,
    replicas: (name: string) => number,
  ): void {
    for (const service of names) {
      const count = replicas(service);
      this.replicas = this.replicas.filter((replica) => replica.service !== service);
      for (let index = 0; index < count; index++) this.#make(service, images[service] ?? '');
      for (const replica of this.#of(service)) replica.running = true;
    }
  }

  do(step: Step): void {
    if (step.kind !== 'run') return;
    const words = step.do.words[0] === 'sh' ? step.do.words.slice(4) : step.do.words.slice(2);
    const kind = /^(create|stop|replace|start-again|start|migrate)-?/.exec(step.id)?.[1];
    switch (kind) {
      case 'create': {
        const count = Number(words[2]);
        for (let at = 3; at < 3 + 3 * count; at += 3) {
          for (let made = 0; made < Number(words[at + 1]); made++)
            this.#make(words[at] ?? '', this.#images[words[at] ?? ''] ?? '');
        }
        return;
      }
      case 'stop':
        for (const id of (words[1] ?? '').split(' ')) this.#set([id], (one) => (one.restart = 'always'));
        this.#set(words.slice(3), (one) => {
          one.running = false;
          one.stopped = true;
        });
        return;
      case 'replace':
        this.#recreate(words.slice(3, 3 + Number(words[2])), this.#images, (name) => this.#wanted.get(name) ?? 0);
        return;
      case 'start-again':
        this.#set(words, (one) => {
          one.running = true;
          one.stopped = false;
        });
        return;
      case 'start':
        for (let at = 3; at < words.length; at += 3) {
          // What was stopped for these is looked for: a daemon that was restarted has brought it back.
          const replaced = this.replicas
            .filter((one) => one.service === words[at] && one.stopped && this.#stopFirst.has(one.service))
            .map(({ id }) => id);
          expect((words[2] ?? '').split(' ')).toEqual(expect.arrayContaining(replaced));
          const waiting = this.#added(words[at] ?? '', (words[at + 1] ?? '').split(',')).filter(
            (replica) => !replica.running,
          );
          for (const replica of waiting.slice(0, Number(words[at + 2]))) replica.running = true;
        }
        return;
      case 'migrate':
        return;
      default:
        throw new Error(`a step of an unknown kind: ${step.id}`);
    }
  }

  undo(verb: UndoVerb, before: Readonly<Record<string, string>>): void {
    switch (verb.verb) {
      case 'keep-only':
        this.replicas = this.replicas.filter(({ id, service }) => service !== verb.service || verb.ids.includes(id));
        return;
      case 'revive':
        if (!this.replicas.some(({ id }) => id === verb.id))
          throw new Error(`${verb.id} is gone, and cannot be revived`);
        this.#set([verb.id], (one) => {
          one.running = true;
          one.stopped = false;
          one.restart = verb.restart;
        });
        return;
      case 'restore-services':
        // Compose leaves what is as the file says.
        this.#recreate(
          verb.services.filter((name) => this.#of(name).some(({ image }) => image !== before[name])),
          before,
          (name) => this.#there.filter((one) => one.service === name).length,
        );
        return;
      default:
    }
  }

  /** guardian.itg.test.ts runs the verbs themselves. */
  finish(verb: FinishVerb): void {
    switch (verb.verb) {
      case 'hand-over':
        this.#set(verb.retired, (one) => (one.restart = 'no'));
        if (verb.services.some(({ service: name, before }) => this.#added(name, before).some((one) => !one.running)))
          this.#set(verb.retired, (one) => (one.running = false));
        for (const { service: name, restart, before } of verb.services)
          for (const replica of this.#added(name, before)) {
            replica.restart = restart;
            replica.running = true;
          }
        return;
      case 'retire':
        this.replicas = this.replicas.filter(({ id }) => !verb.ids.includes(id));
        return;
      case 'remove-services':
        this.replicas = this.replicas.filter(({ service: name }) => !verb.services.includes(name));
        return;
      default:
    }
  }

  /** The power comes back. One that was only created is not started then, whatever its policy. */
  boot(): void {
    for (const one of this.replicas)
      one.running = one.restart === 'always' || (one.restart === 'unless-stopped' && one.running && !one.stopped);
  }
}

const NAMES = ['web', 'api', 'db', 'job', 'old'] as const;
type Name = (typeof NAMES)[number];

/** One service: as it is wanted and as it is, each may be absent. */
const service = fc.record({
  replicas: fc.integer({ min: 0, max: 3 }),
  kind: fc.constantFrom('plain', 'routed', 'routed-stop-first', 'volume', 'named', 'start-first'),
  isWanted: fc.boolean(),
  isNew: fc.boolean(),
  restart: fc.constantFrom('no', 'always', 'unless-stopped', 'on-failure:3'),
  parallelism: fc.integer({ min: 0, max: 2 }),
  there: fc.array(
    fc.record({
      running: fc.boolean(),
      restart: fc.constantFrom('no', 'always', 'unless-stopped', 'on-failure:3'),
    }),
    { maxLength: 3 },
  ),
});
const services = fc.record({ web: service, api: service, db: service, job: service, old: service });

interface Said {
  readonly kind: string;
  readonly restart: string;
  readonly parallelism: number;
}

function describeService(name: Name, { kind, restart, parallelism }: Said, replicas: number, image: string): Json {
  const routed = { 'x-slipway': { router: 'web', port: 80 } };
  const order = (value: string): object => ({ update_config: { order: value, parallelism } });
  return {
    image,
    restart,
    ...(name === 'web' ? { depends_on: { api: { condition: 'service_started', required: false } } } : {}),
    ...(name === 'api' ? { depends_on: { db: { condition: 'service_started', required: false } } } : {}),
    ...(kind === 'volume' ? { volumes: [{ type: 'volume', source: 'data', target: '/data' }] } : {}),
    ...(kind === 'named' ? { container_name: `the-${name}` } : {}),
    ...(kind.startsWith('routed') && name !== 'web' ? routed : {}),
    deploy: {
      replicas: kind === 'named' ? Math.min(1, replicas) : replicas,
      ...(kind === 'plain' || kind === 'routed' ? { update_config: { parallelism } } : {}),
      ...(kind === 'routed-stop-first' ? order('stop-first') : {}),
      ...(kind === 'start-first' ? order('start-first') : {}),
    },
  };
}

interface Scene {
  readonly plan: DeployPlan;
  readonly containers: readonly ContainerState[];
  readonly images: Record<string, string>;
  readonly before: Record<string, string>;
  /** By service, as the file says. */
  readonly restarts: Readonly<Record<string, string>>;
  readonly inPlace: ReadonlySet<string>;
}

const scenes = services.map((chosen): Scene => {
  const wanted: Record<string, Json> = {};
  const released: Record<string, Json> = {};
  const images: Record<string, string> = {};
  const before: Record<string, string> = {};
  const containers: ContainerState[] = [];
  for (const name of NAMES) {
    const { replicas, kind, isWanted, isNew, there } = chosen[name];
    // The router is always there, so that the file is one that Compose takes.
    images[name] = `${name}:${isNew ? 2 : 1}`;
    before[name] = `${name}:1`;
    if (isWanted || name === 'web') wanted[name] = describeService(name, chosen[name], replicas, images[name]);
    const replicasThere = kind === 'named' ? there.slice(0, 1) : there;
    if (replicasThere.length > 0)
      released[name] = describeService(name, chosen[name], replicasThere.length, before[name]);
    containers.push(
      ...replicasThere.map(({ running, restart }, index): ContainerState => ({
        id: `${name}${index}`,
        name: `shop-${name}-${index + 1}`,
        project: 'shop',
        service: name,
        image: `${name}:1`,
        imageId: '',
        state: running ? 'running' : 'exited',
        health: 'none',
        healthLog: [],
        exitCode: running ? 0 : 1,
        oomKilled: false,
        error: '',
        restartCount: 0,
        startedAt: '',
        configHash: isNew ? 'old' : 'new',
        number: index + 1,
        oneoff: false,
        mounts: [],
        restartPolicy: restart,
      })),
    );
  }
  const project = readProject({ services: wanted });
  const { strategies } = chooseStrategies(project, containers);
  const plan = planDeploy({
    project,
    hashes: Object.fromEntries(NAMES.map((name) => [name, 'new'])),
    facts: { containers, networks: [] },
    strategies,
    before: { services: released },
    previous: PREVIOUS,
    released: new Set(Object.keys(released)),
    release: RELEASE,
    target: { project: 'shop', projectDirectory: '/srv/shop' },
    layout: layoutStore('/srv/shop'),
    readyTimeoutSeconds: 120,
  });
  const inPlace = new Set(
    plan.services
      .filter(({ action, strategy }) => action === 'replace' && strategy.order === 'in-place')
      .map(({ service: name }) => name),
  );
  const restarts = Object.fromEntries(NAMES.map((name) => [name, chosen[name].restart]));
  return { plan, containers, images, before, restarts, inPlace };
});

const RUNS = { numRuns: 1000 };

test('what must not run beside its successor is stopped before that one starts', () => {
  fc.assert(
    fc.property(scenes, ({ plan, containers, images }) => {
      const model = new Model(containers, images, plan);
      const old = new Set(containers.map(({ id }) => id));
      const exclusive = plan.services.filter(
        ({ action, strategy }) => action === 'replace' && strategy.order !== 'start-first',
      );
      for (const step of plan.steps) {
        model.do(step);
        for (const { service: name } of exclusive) {
          const running = model.replicas.filter((one) => one.service === name && one.running);
          const sides = new Set(running.map(({ id }) => old.has(id)));
          expect([step.id, name, sides.size]).toEqual([step.id, name, Math.min(1, running.length)]);
        }
      }
    }),
    RUNS,
  );
});

test('after all steps and the finish, what runs is what is wanted, and what is new has the restart policy of its file', () => {
  fc.assert(
    fc.property(scenes, ({ plan, containers, images, restarts, inPlace }) => {
      const model = new Model(containers, images, plan);
      for (const step of plan.steps) model.do(step);
      // Twice: a finish that was interrupted is carried out again.
      for (const verb of [...plan.finish, ...plan.finish]) model.finish(verb);
      const old = new Set(containers.map(({ id }) => id));
      for (const { service: name, replicas, imageAfter, action } of plan.services) {
        const own = model.replicas.filter((one) => one.service === name);
        if (action === 'remove') expect(own).toEqual([]);
        else {
          expect([name, own.length]).toEqual([name, replicas]);
          for (const one of own) expect([one.id, one.image, one.running]).toEqual([one.id, imageAfter, true]);
          // Compose itself gives it to what it makes in its place.
          for (const one of own.filter(({ id }) => !old.has(id) && !inPlace.has(name)))
            expect([one.id, one.restart]).toEqual([one.id, restarts[name]]);
        }
      }
    }),
    RUNS,
  );
});

test('a group is waited for before the next one starts, and all of them in the end', () => {
  let groups = 0;
  fc.assert(
    fc.property(scenes, ({ plan, containers, images, inPlace }) => {
      const model = new Model(containers, images, plan);
      for (const step of plan.steps) {
        model.do(step);
        if (step.kind !== 'hold' || step.gate.gate !== 'ready') continue;
        for (const name of step.gate.services) {
          const { action, replicas } = plan.services.find((one) => one.service === name) ?? {};
          const before = plan.before[name] ?? [];
          const own = model.replicas.filter((one) => one.service === name && one.running);
          const added = own.filter(({ id }) => !before.includes(id));
          const awaited = step.gate.started?.[name];
          if (awaited !== undefined) {
            groups++;
            expect([step.id, name, added.length]).toEqual([step.id, name, awaited]);
          } else {
            const isOwn = action === 'scale' || action === 'start' || inPlace.has(name);
            expect([step.id, name, (isOwn ? own : added).length]).toEqual([step.id, name, replicas]);
          }
        }
      }
    }),
    RUNS,
  );
  expect(groups).toBeGreaterThan(50);
});

/** A boot brings back by itself what ran with one of these. */
const LASTING = ['always', 'unless-stopped'];

test('a boot after any number of steps brings back the release before, and nothing of the new one', () => {
  fc.assert(
    fc.property(scenes, fc.nat({ max: 20 }), ({ plan, containers, images, inPlace }, count) => {
      const model = new Model(containers, images, plan);
      for (const step of plan.steps.slice(0, count)) model.do(step);
      model.boot();
      const old = new Set(containers.map(({ id }) => id));
      const running = model.replicas.filter((one) => one.running && !inPlace.has(one.service)).map(({ id }) => id);
      expect(running.filter((id) => !old.has(id))).toEqual([]);
      const lasting = containers.filter(
        ({ service: name, state, restartPolicy = '' }) =>
          !inPlace.has(name) && state === 'running' && LASTING.includes(restartPolicy),
      );
      expect(running).toEqual(expect.arrayContaining(lasting.map(({ id }) => id)));
    }),
    RUNS,
  );
});

test.each([
  ['before', false],
  ['after', true],
])('a boot %s the hand-over does not make the old run beside the new once that is done', (_when, isHandedOver) => {
  fc.assert(
    fc.property(scenes, ({ plan, containers, images, restarts, inPlace }) => {
      const model = new Model(containers, images, plan);
      for (const step of plan.steps) model.do(step);
      const handOver = plan.finish.filter(({ verb }) => verb === 'hand-over');
      // Nothing may come before it: it is what a boot must find done.
      expect(plan.finish.slice(0, handOver.length)).toEqual(handOver);
      if (isHandedOver) for (const verb of handOver) model.finish(verb);
      model.boot();
      if (!isHandedOver) for (const verb of handOver) model.finish(verb);
      const old = new Set(containers.map(({ id }) => id));
      const isBeside = model.replicas.some(
        ({ id, running, service: name }) => running && !old.has(id) && !inPlace.has(name),
      );
      for (const { service: name, action, strategy } of plan.services) {
        if (inPlace.has(name)) continue;
        const own = model.replicas.filter((one) => one.service === name);
        for (const one of own.filter(({ id }) => !old.has(id)))
          // The boot has ended those without a policy; nothing brings them back then but a start.
          expect([one.id, one.running]).toEqual([one.id, !isHandedOver || LASTING.includes(restarts[name] ?? '')]);
        if (!isBeside || (action !== 'remove' && (action !== 'replace' || strategy.order === 'start-first'))) continue;
        expect(own.filter(({ id, running }) => old.has(id) && running)).toEqual([]);
      }
    }),
    RUNS,
  );
});

test('after any number of steps, the way back leads to what was there', () => {
  fc.assert(
    fc.property(scenes, fc.nat({ max: 20 }), ({ plan, containers, images, before, inPlace }, count) => {
      const model = new Model(containers, images, plan);
      for (const step of plan.steps.slice(0, count)) model.do(step);
      // Twice: an undo that was interrupted is carried out again.
      for (const verb of [...plan.undo, ...plan.undo]) model.undo(verb, before);
      const original = new Model(containers, images).replicas;
      const kept = (replicas: readonly Replica[]): Replica[] => replicas.filter((one) => !inPlace.has(one.service));
      // What was down before may be up; what ran runs, with the restart policy that it had.
      const running = (replicas: readonly Replica[]): Replica[] =>
        kept(replicas).filter(({ id }) => original.find((one) => one.id === id)?.running !== false);
      expect(kept(model.replicas).map(({ id }) => id)).toEqual(kept(original).map(({ id }) => id));
      expect(running(model.replicas)).toEqual(running(original));
      for (const name of inPlace) {
        const own = model.replicas.filter((one) => one.service === name);
        expect([name, own.every(({ image }) => image === before[name])]).toEqual([name, true]);
      }
    }),
    RUNS,
  );
});

test('no container of the release before is removed before the commit, but by Compose in its place', () => {
  fc.assert(
    fc.property(scenes, ({ plan, containers, inPlace }) => {
      for (const verb of plan.undo) {
        if (verb.verb !== 'keep-only' || inPlace.has(verb.service)) continue;
        const own = containers.filter((one) => one.service === verb.service).map(({ id }) => id);
        expect([...verb.ids].sort()).toEqual(own.sort());
      }
      const there = new Set(containers.map(({ id }) => id));
      for (const id of plan.retired) expect(there.has(id)).toBe(true);
    }),
    RUNS,
  );
});

test('a router learns of new replicas only after they are ready, and is itself the last to change', () => {
  fc.assert(
    fc.property(scenes, ({ plan }) => {
      const route = plan.steps.findIndex(({ kind }) => kind === 'route');
      if (route === -1) return;
      const after = plan.steps.slice(route).map(({ id }) => id);
      expect(after.filter((id) => /^(create|start|stop|replace|ready)-\d/.test(id))).toEqual([]);
      expect(plan.undo[0]).toMatchObject({ verb: 'restore-router' });
      expect(plan.steps.at(-1)?.id).toBe('prove');
    }),
    RUNS,
  );
});
