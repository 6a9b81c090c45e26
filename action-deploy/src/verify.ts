/** The gates of a deploy: looks at the new release until it is proven or known to be bad. */
import type { HoldStep } from '#shared/model/step';
import { parseProject, type Service } from '#shared/compose/project';
import { ProbeError, ReleaseError } from '#shared/errors';
import type { Ports, Session } from '#shared/ports';
import type { Check } from '#shared/probes/check-model';
import { type ContainerState, inspectContainers, lastExitCode, parseContainers, times } from '#shared/probes/container';
import { describeOutcome, groupResults, type CheckOutcome } from '#shared/probes/outcome';
import { findDecline, judgeReadiness, type ReadinessTarget, type Sightings } from '#shared/probes/readiness';
import { runChecks } from '#shared/probes/run-checks';
import { excerpt } from '#shared/shell/excerpt';
import { script } from '#shared/shell/render';
import { describeSeconds } from '#shared/inputs/values';

/** How long a service without a health check is watched, where `update_config.monitor` does not say. */
export const DEFAULT_STABLE_SECONDS = 5;

const POLL_SECONDS = 0.25;

export interface VerifyContext {
  readonly session: Session;
  readonly project: string;
  readonly services: readonly Service[];
  /** Services that this deploy changes. */
  readonly changed: readonly string[];
  /** Containers that the plan leaves alone, as they were before. */
  readonly kept: readonly ContainerState[];
  readonly checks: readonly Check[];
  /** Names of checks that failed before the deploy too. */
  readonly baseline: ReadonlySet<string>;
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

export function createVerifier(context: VerifyContext): Verifier {
  const { session, project, ports } = context;
  let containers: readonly ContainerState[] = [];
  let outcomes: readonly CheckOutcome[] = [];
  /** As they were when they had become ready, by id. */
  const ready = new Map<string, ContainerState>();
  const readyAtMs = new Map<string, number>();

  const look = async (signal: AbortSignal): Promise<readonly ContainerState[]> => {
    const { stdout } = await session.run(inspectContainers(project), { purpose: 'look at the containers', signal });
    containers = parseContainers(stdout);
    return containers;
  };
  const targetsOf = (names: readonly string[]): ReadinessTarget[] =>
    context.services
      .filter((service) => names.includes(service.name))
      .map((service) => ({
        service: service.name,
        replicas: service.replicas,
        oneShot: service.oneShot,
        stableSeconds: service.monitorSeconds ?? DEFAULT_STABLE_SECONDS,
      }));
  const fail = async (service: string, reason: string, broken: readonly ContainerState[]): Promise<never> => {
    throw new BadReleaseError(service, reason, await collectEvidence(session, broken));
  };

  const waitUntilReady = async (
    names: readonly string[],
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<void> => {
    const targets = targetsOf(names);
    const startedMs = ports.clock.monotonicMs();
    let sightings: Sightings = new Map();
    let lastLineMs = startedMs;
    for (;;) {
      const seen = await look(signal);
      const nowMs = ports.clock.monotonicMs();
      const verdict = judgeReadiness(targets, seen, sightings, nowMs);
      switch (verdict.kind) {
        case 'ready':
          for (const container of seen.filter((one) => names.includes(one.service))) {
            ready.set(container.id, container);
            readyAtMs.set(container.service, nowMs);
          }
          return;
        case 'failed':
          return fail(verdict.service, verdict.reason, verdict.containers);
        case 'waiting':
          sightings = verdict.sightings;
          if (nowMs - startedMs > timeoutSeconds * 1000) {
            const late = seen.filter((container) => names.includes(container.service));
            return fail(
              names.join(', '),
              `not ready within ${describeSeconds(timeoutSeconds)} (input timeout): ${verdict.reasons.join('; ')}`,
              late,
            );
          }
          if (nowMs - lastLineMs > 5000) {
            lastLineMs = nowMs;
            ports.reporter.line(`  ${describeSeconds((nowMs - startedMs) / 1000)}: ${verdict.reasons.join('; ')}`);
          }
      }
      await ports.clock.sleep(POLL_SECONDS, signal);
    }
  };

  /** The monitor time, while the health checks run; whichever fails first ends it. */
  const prove = async (signal: AbortSignal): Promise<void> => {
    const ending = new AbortController();
    const both = AbortSignal.any([signal, ending.signal]);
    const work = [monitor(both), checkRelease(both)];
    try {
      await Promise.all(work);
      // What became of the containers while the checks were at work.
      await assertSteady(signal);
    } finally {
      ending.abort();
      await Promise.allSettled(work);
    }
  };
  const monitor = async (signal: AbortSignal): Promise<void> => {
    const endMs = Math.max(
      0,
      ...context.services
        .filter((service) => context.changed.includes(service.name) && !service.oneShot)
        .map((service) => (readyAtMs.get(service.name) ?? 0) + (service.monitorSeconds ?? 0) * 1000),
    );
    for (;;) {
      await assertSteady(signal);
      const leftSeconds = (endMs - ports.clock.monotonicMs()) / 1000;
      if (leftSeconds <= 0) return;
      await ports.clock.sleep(Math.min(leftSeconds, 1), signal);
    }
  };
  const assertSteady = async (signal: AbortSignal): Promise<void> => {
    const decline = findDecline([...ready.values()], await look(signal), targetsOf(context.changed));
    if (decline !== undefined) await fail(decline.service, decline.reason, decline.containers);
    const lost = context.kept.find((before) => containers.every((now) => now.id !== before.id));
    if (lost !== undefined)
      await fail(lost.service, `${lost.name} was to be left alone, and is gone or was replaced`, []);
  };
  const checkRelease = async (signal: AbortSignal): Promise<void> => {
    if (context.checks.length === 0) return;
    outcomes = groupResults(await runChecks(context.checks, { http: ports.http, clock: ports.clock, session, signal }));
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
          return waitUntilReady(step.gate.services, step.timeoutSeconds, signal);
        case 'proven':
          return prove(signal);
      }
    },
    outcomes: () => outcomes,
    containers: () => containers,
  };
}

/**
 * Waits until services that were put back are ready again. Not cancellable: also after a cancel it is worth some seconds to
 * know what serves.
 *
 * @param compose the Compose file of the release that was put back
 * @returns why it is not ready, or nothing
 */
export async function waitForRestored(
  names: readonly string[],
  compose: string,
  timeoutSeconds: number,
  context: Pick<VerifyContext, 'session' | 'project' | 'ports'>,
): Promise<string | undefined> {
  if (names.length === 0 || compose === '') return undefined;
  const { services } = parseProject(compose);
  const restored = services.map((service) => service.name).filter((name) => names.includes(name));
  if (restored.length === 0) return undefined;
  const verifier = createVerifier({ ...context, services, changed: [], kept: [], checks: [], baseline: new Set() });
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
