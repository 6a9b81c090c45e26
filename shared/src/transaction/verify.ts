/** The gates of a deploy: looks at the new release until it is proven or known to be bad. */
import { startAgain as startAgainAlone } from '../commands/compose';
import { watchContainers } from '../commands/watch-containers';
import { parseProject, type Service } from '../compose/project';
import { ConnectError, ProbeError, ReleaseError, SlipwayError } from '../errors';
import { describeSeconds } from '../inputs/values';
import type { HoldStep } from '../model/step';
import type { Ports, Remote, Session } from '../ports';
import type { Check } from '../probes/check-model';
import { type ContainerState, lastExitCode, parseWatchLine, times } from '../probes/container';
import { type CheckOutcome, describeOutcome, groupResults } from '../probes/outcome';
import {
  findDecline,
  foresee,
  judgeReadiness,
  type Probes,
  type ReadinessTarget,
  recordProbe,
  type Sightings,
} from '../probes/readiness';
import { runChecks } from '../probes/run-checks';
import { excerpt } from '../shell/excerpt';
import { script } from '../shell/render';

/** As often as Docker's own restarts are borne with before it counts as a crash loop. */
const MAX_RESTARTS = 2;

/** How long a service without a health check is watched, where `update_config.monitor` does not say. */
export const DEFAULT_STABLE_SECONDS = 5;

export interface VerifyContext {
  /** The guardian: what looks at containers goes through it, in turn with the steps. */
  readonly remote: Remote;
  /** For what is asked beside. */
  readonly session: Session;
  readonly project: string;
  readonly services: readonly Service[];
  /** Services that this deploy changes. */
  readonly changed: readonly string[];
  /** Containers as they were before. */
  readonly containers: readonly ContainerState[];
  /** By service: ids of old containers, that run beside the new ones. */
  readonly old: Readonly<Record<string, readonly string[]>>;
  /** Of these, those that were stopped for their successors: none of them may run beside one. */
  readonly stopped: ReadonlySet<string>;
  /** Containers that the plan leaves alone, as they were before. */
  readonly kept: readonly ContainerState[];
  readonly checks: readonly Check[];
  /** Names of checks that failed before the deploy too. */
  readonly baseline: ReadonlySet<string>;
  readonly bakeSeconds: number;
  /** What else must end well while the new release serves; throws when it does not. */
  readonly tryOut?: ((containers: readonly ContainerState[], signal: AbortSignal) => Promise<void>) | undefined;
  readonly ports: Pick<Ports, 'http' | 'clock' | 'reporter'>;
}

/** What a person would look up first. Remote text. */
export interface Evidence {
  /** How its containers ended, what their health checks said. */
  readonly states: readonly string[];
  /** The last lines of their logs, oldest first. */
  readonly log: readonly string[];
}

/** A release that is not good: what it was, and everything known about why. */
export class BadReleaseError extends ReleaseError {
  readonly service: string;
  readonly evidence: Evidence;

  constructor(service: string, reason: string, evidence: Evidence) {
    super(reason, '');
    this.service = service;
    this.evidence = evidence;
  }
}

export interface Verifier {
  hold(step: HoldStep, signal: AbortSignal): Promise<void>;
  /** Of the last gate; empty before. */
  outcomes(): readonly CheckOutcome[];
  /** As last seen. */
  containers(): readonly ContainerState[];
}

/** What one look says: go on looking, or stop. */
type Look = 'on' | 'enough' | Bad;

interface Bad {
  readonly service: string;
  readonly reason: string;
  readonly containers: readonly ContainerState[];
}

export function createVerifier(context: VerifyContext): Verifier {
  const { remote, session, project, ports } = context;
  let containers = context.containers;
  let outcomes: readonly CheckOutcome[] = [];
  /** Of all watches. */
  let probes: Probes = new Map();
  /** As they were when they had become ready, by id. */
  const ready = new Map<string, ContainerState>();

  /** What its own health command has said already, Docker says at its next look, which may be half a minute away. */
  const foreseen = (one: ContainerState): ContainerState => foresee(one, probes.get(one.id));
  /** Beside the new ones until the commit, running or stopped. */
  const isOld = (one: ContainerState): boolean =>
    one.project === project && context.old[one.service]?.includes(one.id) === true;

  const targetsOf = (names: readonly string[]): ReadinessTarget[] =>
    context.services
      .filter((service) => names.includes(service.name))
      .map((service) => ({
        service: service.name,
        replicas: service.replicas,
        oneShot: service.oneShot,
        stableSeconds: service.monitorSeconds ?? DEFAULT_STABLE_SECONDS,
        monitorSeconds: service.monitorSeconds ?? 0,
        ignoring: new Set(context.old[service.name] ?? []),
      }));

  /** How often each was started again, by id. */
  const restarts = new Map<string, number>();
  /**
   * A first start that fails, since what it needs is not there yet, is common; its restart policy is for that. Until the switch
   * it has none, so that a boot does not bring it up: so we start it again, as often as a policy may before it counts as a loop.
   */
  const startAgain = (one: ContainerState): ContainerState => {
    const service = context.services.find(({ name }) => name === one.service);
    const isOurs = context.changed.includes(one.service) && !one.oneoff && !isOld(one) && service?.oneShot === false;
    const policy = service?.restartPolicy ?? 'no';
    const mayStart =
      policy === 'always' || policy === 'unless-stopped' || (policy.startsWith('on-failure') && one.exitCode !== 0);
    const tries = restarts.get(one.id) ?? 0;
    if (one.state !== 'exited' || !isOurs || !mayStart || one.oomKilled || ready.has(one.id)) return one;
    const key = `${one.id} ${one.startedAt}`;
    if (!startedAgain.has(key)) {
      if (tries >= MAX_RESTARTS) return { ...one, restartCount: tries };
      startedAgain.add(key);
      restarts.set(one.id, tries + 1);
      void session
        .run(startAgainAlone(one.id, stoppedFor(one)), { purpose: `start ${one.name} again`, accept: 'any' })
        .catch(() => undefined);
    }
    return { ...one, state: 'restarting', restartCount: tries };
  };
  const startedAgain = new Set<string>();
  /** Those of other services may well run: their turn to be stopped comes later. */
  const stoppedFor = ({ service }: ContainerState): string[] =>
    (context.old[service] ?? []).filter((id) => context.stopped.has(id));

  /** Watches the containers of services until `judge` has seen enough, or the signal. @throws BadReleaseError */
  const watch = async (
    services: readonly string[],
    timeoutSeconds: number,
    signal: AbortSignal,
    judge: (seen: readonly ContainerState[], probes: Probes, nowMs: number) => Look,
  ): Promise<void> => {
    const ending = new AbortController();
    const verdict = Promise.withResolvers<Bad | undefined>();
    let seen: readonly ContainerState[] | undefined;
    const hear = (text: string): void => {
      const line = parseWatchLine(text);
      if (line === undefined) return;
      if (line.kind === 'containers') {
        seen = line.containers;
        containers = [...containers.filter((one) => !services.includes(one.service)), ...seen];
      }
      if (line.kind === 'probe') probes = recordProbe(probes, line.probe);
      if (seen === undefined) return;
      const look = judge(seen.map(startAgain), probes, ports.clock.monotonicMs());
      if (look !== 'on') verdict.resolve(look === 'enough' ? undefined : look);
    };
    const watching = remote.run(watchContainers(project, services), {
      purpose: 'watch the containers',
      timeoutSeconds: timeoutSeconds + 60,
      signal: AbortSignal.any([signal, ending.signal]),
      onLine: (line, stream) => {
        if (stream !== 'stdout') return;
        try {
          hear(line);
        } catch (error) {
          verdict.reject(error);
        }
      },
    });
    try {
      const bad = await Promise.race([
        verdict.promise,
        watching.then(() => {
          throw new WatchError(remote.where);
        }),
      ]);
      if (bad !== undefined) {
        throw new BadReleaseError(bad.service, bad.reason, await collectEvidence(session, bad.containers));
      }
    } finally {
      ending.abort();
      watching.catch(() => undefined);
    }
  };

  /** Docker was restarted, and has brought back what was stopped: its successor has no restart policy yet. */
  const findReturned = (seen: readonly ContainerState[], names: readonly string[]): Bad | undefined => {
    const back = seen.find(
      (one) =>
        names.includes(one.service) &&
        context.stopped.has(one.id) &&
        ['running', 'restarting', 'paused'].includes(one.state),
    );
    if (back === undefined) return undefined;
    const reason = `${back.name} is ${back.state}, which was stopped for its successor: was Docker restarted?`;
    return { service: back.service, reason, containers: [] };
  };

  /** Of what was to be left alone, what was not. */
  const findLost = (seen: readonly ContainerState[]): Bad | undefined => {
    const lost = context.kept.find((before) => seen.every((now) => now.id !== before.id));
    if (lost === undefined) return undefined;
    const reason = `${lost.name} was to be left alone, and is gone or was replaced`;
    return { service: lost.service, reason, containers: [] };
  };

  const waitUntilReady = async (
    names: readonly string[],
    started: Readonly<Record<string, number>>,
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<void> => {
    const targets = targetsOf(names).map((target) => ({
      ...target,
      replicas: started[target.service] ?? target.replicas,
    }));
    const isAwaited = (one: ContainerState): boolean => one.state !== 'created' || started[one.service] === undefined;
    let startedMs: number | undefined;
    let sightings: Sightings = new Map();
    let lastLineMs = 0;
    const kept = context.kept.map((one) => one.service);
    await watch([...new Set([...names, ...kept])], timeoutSeconds, signal, (all, probes, nowMs) => {
      const seen = all.filter(isAwaited);
      startedMs ??= nowMs;
      lastLineMs ||= nowMs;
      const lost = findReturned(all, names) ?? findLost(seen);
      if (lost !== undefined) return lost;
      const readiness = judgeReadiness(targets, seen, sightings, nowMs, probes);
      switch (readiness.kind) {
        case 'ready':
          for (const container of newOnes(seen, targets)) ready.set(container.id, container);
          return 'enough';
        case 'failed':
          return readiness;
        case 'waiting':
          sightings = readiness.sightings;
          if (nowMs - startedMs > timeoutSeconds * 1000) {
            return {
              service: names.join(', '),
              reason: `not ready within ${describeSeconds(timeoutSeconds)} (input timeout): ${readiness.reasons.join('; ')}`,
              containers: newOnes(seen, targets),
            };
          }
          if (nowMs - lastLineMs > 5000) {
            lastLineMs = nowMs;
            ports.reporter.line(`  ${describeSeconds((nowMs - startedMs) / 1000)}: ${readiness.reasons.join('; ')}`);
          }
          return 'on';
      }
    });
  };

  /** The time in which the new release serves, and can still go back: nothing gets worse while everything asked of it is tried. */
  const prove = async (timeoutSeconds: number, signal: AbortSignal): Promise<void> => {
    const names = [...new Set([...context.changed, ...context.kept.map((one) => one.service)])];
    if (names.length === 0) return;
    const targets = targetsOf(context.changed);
    const ending = new AbortController();
    const both = AbortSignal.any([signal, ending.signal]);
    const tried = { isDone: false };
    // The watch is in the guardian's queue behind the steps that were sent before: by its first look these are done. Before,
    // what the router answers with is the old release.
    const begun = Promise.withResolvers<boolean>();
    const trials = begun.promise.then(async (isWanted) => {
      if (isWanted) await tryOut(both);
      tried.isDone = true;
    });
    const watching = watch(names, timeoutSeconds + context.bakeSeconds, both, (seen) => {
      begun.resolve(true);
      const decline = findDecline([...ready.values()], seen, targets);
      if (decline !== undefined) return decline;
      const lost = findReturned(seen, names) ?? findLost(seen);
      if (lost !== undefined) return lost;
      return tried.isDone ? 'enough' : 'on';
    });
    try {
      // Whichever fails first ends it; the watch goes on until the trials have passed, and then for one more look.
      await Promise.all([watching, trials]);
    } finally {
      ending.abort();
      begun.resolve(false);
      await Promise.allSettled([watching, trials]);
    }
  };

  const tryOut = async (signal: AbortSignal): Promise<void> => {
    await checkRelease(signal);
    await context.tryOut?.(containers, signal);
    if (context.bakeSeconds > 0) {
      ports.reporter.line(`  baking for ${describeSeconds(context.bakeSeconds)}: the release before is warm`);
      await ports.clock.sleep(context.bakeSeconds, signal);
      await checkRelease(signal);
    }
  };

  const checkRelease = async (signal: AbortSignal): Promise<void> => {
    if (context.checks.length === 0) return;
    outcomes = groupResults(
      await runChecks(context.checks, {
        http: ports.http,
        clock: ports.clock,
        session,
        signal,
        view: (found) => found.filter((one) => !isOld(one)).map(foreseen),
      }),
    );
    const bad = outcomes.filter((outcome) => !outcome.ok && !context.baseline.has(outcome.check.name));
    if (bad.length > 0) {
      throw new ProbeError(
        bad.map((outcome) => `health check ${outcome.check.name}: ${describeOutcome(outcome)}`).join('; '),
        '',
      );
    }
  };

  return {
    hold: async (step, signal) => {
      switch (step.gate.gate) {
        case 'ready':
          return waitUntilReady(step.gate.services, step.gate.started ?? {}, step.timeoutSeconds, signal);
        case 'proven':
          return prove(step.timeoutSeconds, signal);
      }
    },
    outcomes: () => outcomes,
    // Docker does not count the times that we have started one again.
    containers: () =>
      containers
        .map(foreseen)
        .map((one) => ({ ...one, restartCount: Math.max(one.restartCount, restarts.get(one.id) ?? 0) })),
  };
}

/** Nothing but our own word ends it. */
class WatchError extends SlipwayError {
  readonly code = 'watch';

  constructor(where: string) {
    super(`The watch of the containers at ${where} ended by itself.`, 'Does Docker answer there? docker ps');
  }
}

function newOnes(seen: readonly ContainerState[], targets: readonly ReadinessTarget[]): ContainerState[] {
  return targets.flatMap(({ service, ignoring }) =>
    seen.filter((one) => one.service === service && !one.oneoff && ignoring?.has(one.id) !== true),
  );
}

/**
 * Waits until services that were put back are ready again. Not cancellable: also after a cancel it is worth some seconds to
 * know what serves.
 *
 * @param compose the Compose file of the release that was put back
 * @returns why it is not ready, or nothing
 * @throws ConnectError
 */
export async function waitForRestored(
  names: readonly string[],
  compose: string,
  timeoutSeconds: number,
  context: Pick<VerifyContext, 'remote' | 'session' | 'project' | 'ports'>,
): Promise<string | undefined> {
  if (names.length === 0 || compose === '') return undefined;
  const services = parseProject(compose).services.map((service) => ({ ...service, monitorSeconds: 0 }));
  const restored = services.map((service) => service.name).filter((name) => names.includes(name));
  if (restored.length === 0) return undefined;
  const verifier = createVerifier({
    ...context,
    services,
    changed: [],
    containers: [],
    old: {},
    stopped: new Set(),
    kept: [],
    checks: [],
    baseline: new Set(),
    bakeSeconds: 0,
  });
  try {
    await verifier.hold(
      {
        kind: 'hold',
        id: 'restored',
        title: 'wait for the old release',
        gate: { gate: 'ready', services: restored },
        timeoutSeconds,
      },
      AbortSignal.timeout(timeoutSeconds * 1000 + 10_000),
    );
    return undefined;
  } catch (error) {
    if (error instanceof ConnectError) throw error;
    return error instanceof Error ? error.message : String(error);
  }
}

const LOG_LINES = 30;

/** All replicas of a bad release fail alike. */
const MAX_CONTAINERS = 3;

async function collectEvidence(session: Session, containers: readonly ContainerState[]): Promise<Evidence> {
  const states: string[] = [];
  const log: string[] = [];
  for (const container of containers.slice(0, MAX_CONTAINERS)) {
    states.push(describeState(container));
    const lastHealth = container.healthLog.at(-1);
    if (lastHealth !== undefined && container.health !== 'healthy') {
      states.push(`its last health check: exit code ${lastHealth.exitCode}: ${excerpt(lastHealth.output)}`);
    }
    const lines = await readLog(session, container);
    if (typeof lines === 'string') states.push(lines);
    else if (lines.length === 0) states.push(`${container.name} has logged nothing`);
    else log.push(...lines);
  }
  return { states, log };
}

function describeState(container: ContainerState): string {
  const oom = container.oomKilled ? ', killed for lack of memory (OOM)' : '';
  const restarts = container.restartCount === 0 ? '' : `, restarted ${times(container.restartCount)}`;
  const health = container.health === 'none' ? ', no health check' : `, ${container.health}`;
  return `${container.name}: ${container.state}${lastExitCode(container)}${oom}${restarts}${health}`;
}

/** @returns the lines, or why there are none. */
async function readLog(session: Session, container: ContainerState): Promise<string[] | string> {
  try {
    const { stdout } = await session.run(script('docker logs --tail "$2" "$1" 2>&1', container.id, String(LOG_LINES)), {
      purpose: 'read the last log lines',
      accept: 'any',
      timeoutSeconds: 15,
    });
    return stdout
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => excerpt(line, 1000));
  } catch (error) {
    return `the log of ${container.name} could not be read: ${error instanceof Error ? error.message : String(error)}`;
  }
}
