/**
 * Every key by which a Compose file says how a service is replaced, and what Slipway makes of it: honoured, or refused with a
 * reason. What is in no table is refused too: a key that is ignored in silence is a promise broken. Pure.
 *
 * https://docs.docker.com/reference/compose-file/deploy/
 */
import type { PreflightFinding } from '../errors';
import { type Json, readMember } from '../json';
import { isObject, parseGoDuration, type Service } from '../compose/project';
import { quoteValue } from '../inputs/values';

/** How a service's containers are replaced; see {@link Strategy}. */
export type ReplacementOrder = 'start-first' | 'stop-first' | 'in-place';

export interface KeyRule {
  /** How it is honoured, as the documentation says it. */
  readonly honoured: string;
  /** Why this value cannot be honoured; undefined where it can. Without it every value is Docker's or Compose's to judge. */
  readonly refuse?: (value: Json, service: Service, order: ReplacementOrder) => Refusal | undefined;
}

interface Refusal {
  /** Follows "Service web asks for `update_config.monitor: x`, ". */
  readonly why: string;
  readonly hint: string;
}

type KeyTable = Readonly<Record<string, KeyRule>>;

const refuseDuration = (value: Json): Refusal | undefined =>
  typeof value === 'string' && parseGoDuration(value) !== undefined
    ? undefined
    : { why: 'which is no duration', hint: 'Write it as `10s` or `1m30s`.' };

const refuseCount = (value: Json): Refusal | undefined =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0
    ? undefined
    : { why: 'which is no number of replicas', hint: 'Write a whole number; 0 is all at once.' };

const refuseOrder = (value: Json): Refusal | undefined =>
  value === 'start-first' || value === 'stop-first'
    ? undefined
    : { why: 'which is no order', hint: 'Known are `start-first` and `stop-first`.' };

const refuseRatio = (value: Json): Refusal | undefined =>
  value === 0
    ? undefined
    : {
        why: 'and a transaction has no failures that it tolerates: one replica that fails undoes the release',
        hint: 'Remove it, or say 0.',
      };

/** Compose's recreate takes all replicas in one go. */
const refusePaceInPlace = (service: Service, order: ReplacementOrder): Refusal | undefined =>
  order === 'in-place' && isPaced(service)
    ? {
        why: 'and its replicas are replaced in place, by Compose, which takes them all at once',
        hint: 'Remove it, or say `parallelism: 0`.',
      }
    : undefined;

/** Whether `parallelism` makes more than one group of its replicas. */
function isPaced(service: Service): boolean {
  return splitReplicas(service.replicas, service.updateConfig?.parallelism).length > 1;
}

/** The way back of what was stopped is one verb, which the server carries out alone, perhaps without a runner that counts and waits. */
const refusePaceBack = (service: Service, order: ReplacementOrder, why: string): Refusal | undefined =>
  order === 'start-first' || splitReplicas(service.replicas, service.rollbackConfig?.parallelism).length < 2
    ? undefined
    : { why, hint: 'Remove it, or say `parallelism: 0`.' };

const UPDATE_CONFIG: KeyTable = {
  parallelism: {
    honoured:
      'So many new replicas are started at a time; each group is ready before the next one starts. 0, and absent: all at once. With stop-first all old ones are stopped before the first group.',
    refuse: (value, service, order) => refuseCount(value) ?? refusePaceInPlace(service, order),
  },
  delay: {
    honoured: 'The time between a group that is ready and the start of the next one.',
    refuse: (value, service, order) =>
      refuseDuration(value) ?? (value === '0s' ? undefined : refusePaceInPlace(service, order)),
  },
  order: {
    honoured:
      'start-first: new replicas beside the old, which stay until the commit. stop-first: the old are stopped first. Refused where it cannot hold. Absent: start-first behind a router, else stop-first.',
    refuse: refuseOrder,
  },
  monitor: {
    honoured:
      'What was ready must stay so for so long before the release is committed; for a container without a health check, also how long it must run until it counts as ready.',
    refuse: refuseDuration,
  },
  failure_action: {
    honoured: '`rollback`, and absent: the whole release is undone.',
    refuse: (value) =>
      value === 'rollback'
        ? undefined
        : { why: 'which a transaction cannot honour', hint: 'Remove it, or say `rollback`.' },
  },
  max_failure_ratio: { honoured: '0, and absent.', refuse: refuseRatio },
};

const ROLLBACK_CONFIG: KeyTable = {
  parallelism: {
    honoured:
      'start-first: the old replicas have never stopped, so none is replaced on the way back, and any bound holds. Otherwise all are started at once: 0, or the number of replicas.',
    refuse: (value, service, order) =>
      refuseCount(value) ?? refusePaceBack(service, order, 'and the way back starts all old replicas at once'),
  },
  delay: {
    honoured: 'Between groups, of which the way back has one.',
    refuse: (value, service, order) =>
      refuseDuration(value) ??
      (value === '0s' ? undefined : refusePaceBack(service, order, 'and the way back does not wait between replicas')),
  },
  monitor: {
    honoured:
      'start-first: the old replicas were never replaced, so there is nothing to watch. Otherwise 0: the server goes back alone, also where nobody is left to watch; that the old release is ready again is reported.',
    refuse: (value, _service, order) =>
      refuseDuration(value) ??
      (order === 'start-first' || (typeof value === 'string' && parseGoDuration(value) === 0)
        ? undefined
        : { why: 'and the server, which goes back alone, does not watch it', hint: 'Remove it.' }),
  },
  order: {
    honoured:
      'stop-first: the new replicas go before an old one is started. start-first: where the old ones have never stopped.',
    refuse: (value, _service, order) =>
      refuseOrder(value) ??
      (value === 'stop-first' || order === 'start-first'
        ? undefined
        : {
            why: `and the way forth is ${order}: on the way back, too, the new replicas must be gone before the old ones start`,
            hint: 'Remove it, or say `stop-first`.',
          }),
  },
  failure_action: {
    // What a failing verb does is in guardian.sh, `settle`: the others are carried out, and the journal stays open.
    honoured:
      '`continue`, and absent: what cannot be put back does not keep the rest from it; it is tried three times, and again by the next session.',
    refuse: (value) =>
      value === 'continue'
        ? undefined
        : {
            why: 'and to stop half-way back would leave half of each release',
            hint: 'Remove it, or say `continue`: what cannot be put back is reported, and the rest is put back.',
          },
  },
  max_failure_ratio: { honoured: '0, and absent.', refuse: refuseRatio },
};

const HEALTHCHECK: KeyTable = {
  test: {
    honoured:
      'Docker runs it. A replica is ready when it is `healthy`, and an `unhealthy` one fails the release at once. `NONE` is no health check.',
  },
  interval: { honoured: 'By Docker.' },
  timeout: { honoured: 'By Docker: a test that takes longer has failed.' },
  retries: { honoured: 'By Docker: so many failures in a row are `unhealthy`.' },
  start_period: { honoured: 'By Docker: failures in it leave a replica `starting`, for which the gate waits.' },
  start_interval: {
    honoured:
      'By Docker from Engine 25 on: how often it is tested in the start period, and so how soon the gate knows.',
  },
  disable: {
    honoured: 'There is none, also where the image brings one: ready is what has run for `monitor`, else 5 s.',
  },
};

const DEPENDENCY: KeyTable = {
  condition: {
    honoured:
      'Services are replaced in waves, and the next one begins when all of this one are ready: service_started and service_healthy hold, the first is more than was asked. service_completed_successfully makes the other one a one-shot service, which has ended with 0.',
    refuse: (value) =>
      typeof value === 'string' &&
      ['service_started', 'service_healthy', 'service_completed_successfully'].includes(value)
        ? undefined
        : {
            why: 'which is no condition',
            hint: 'Known are `service_started`, `service_healthy` and `service_completed_successfully`.',
          },
  },
  restart: { honoured: 'This service is replaced, too, when the other one is.' },
  required: {
    honoured:
      'false: the other one may be missing from the project (a profile). Where it is there, it is a part of the release, and must become ready.',
  },
};

const RESTART_POLICY: KeyTable = {
  condition: { honoured: 'By Compose: `any` is `always`, `none` is `no`. It wins over `restart`.' },
  max_attempts: {
    honoured: 'By Docker, with `on-failure`.',
    refuse: (value, service) =>
      value === 0 || service.restartPolicy.startsWith('on-failure')
        ? undefined
        : { why: 'which Docker takes with `condition: on-failure` only', hint: 'Remove it, or say `on-failure`.' },
  },
  delay: {
    honoured: 'Docker Compose ignores it: Docker waits 100 ms, and doubles that each time. There is a warning.',
  },
  window: { honoured: 'Docker Compose ignores it: Docker counts anew after 10 s of running. There is a warning.' },
};

const SERVICE: KeyTable = {
  stop_grace_period: { honoured: '`docker stop` waits so long, as Compose wrote it into the container. Absent: 10 s.' },
  stop_signal: { honoured: 'By Docker, as Compose wrote it into the container.' },
};

/** All tables, by the key that they are under. */
export const KEY_RULES = {
  'deploy.update_config': UPDATE_CONFIG,
  'deploy.rollback_config': ROLLBACK_CONFIG,
  'deploy.restart_policy': RESTART_POLICY,
  healthcheck: HEALTHCHECK,
  depends_on: DEPENDENCY,
  service: SERVICE,
} as const satisfies Readonly<Record<string, KeyTable>>;

/** What in these keys cannot be honoured in the order that was chosen. */
export function judgeKeys(service: Service, order: ReplacementOrder): PreflightFinding[] {
  const deploy = readMember(service.raw, 'deploy');
  const dependsOn = readMember(service.raw, 'depends_on');
  const judge = (table: KeyTable, place: string, values: Json | undefined): PreflightFinding[] =>
    isObject(values)
      ? Object.entries(values).flatMap(([key, value]) => judgeKey(table, `${place}.${key}`, key, value, service, order))
      : [];
  return [
    ...judge(UPDATE_CONFIG, 'update_config', readMember(deploy, 'update_config')),
    ...judge(ROLLBACK_CONFIG, 'rollback_config', readMember(deploy, 'rollback_config')),
    ...judge(RESTART_POLICY, 'restart_policy', readMember(deploy, 'restart_policy')),
    ...judge(HEALTHCHECK, 'healthcheck', readMember(service.raw, 'healthcheck')),
    ...(isObject(dependsOn)
      ? Object.entries(dependsOn).flatMap(([name, how]) => judge(DEPENDENCY, `depends_on.${name}`, how))
      : []),
  ];
}

function judgeKey(
  table: KeyTable,
  place: string,
  key: string,
  value: Json,
  service: Service,
  order: ReplacementOrder,
): PreflightFinding[] {
  // Extensions say nothing to Compose, and null is as good as absent.
  if (key.startsWith('x-') || value === null) return [];
  const rule = Object.hasOwn(table, key) ? table[key] : undefined;
  const refusal =
    rule === undefined
      ? {
          why: 'which Slipway does not know, and ignores nothing',
          hint: `Known are: ${Object.keys(table).join(', ')}.`,
        }
      : rule.refuse?.(value, service, order);
  if (refusal === undefined) return [];
  const shown = typeof value === 'object' ? '' : `: ${typeof value === 'string' ? value : JSON.stringify(value)}`;
  return [
    {
      message: `Service ${service.name} asks for ${quoteValue(`${place}${shown}`)}, ${refusal.why}.`,
      hint: refusal.hint,
    },
  ];
}

/** A Docker network has no room for more than about a thousand containers unless told so. */
const MAX_REPLICAS = 10_000;

/** What a service can have, and what lists of them can be made for. */
export function isReplicaCount(replicas: number): boolean {
  return Number.isInteger(replicas) && replicas >= 0 && replicas <= MAX_REPLICAS;
}

/** Replicas in groups of `parallelism`: 5 by 2 is `[2, 2, 1]`; 0 and undefined are one group. Empty for what is no count. */
export function splitReplicas(replicas: number, parallelism = 0): number[] {
  if (replicas === 0 || !isReplicaCount(replicas)) return [];
  const size = parallelism === 0 ? replicas : Math.min(parallelism, replicas);
  return Array.from({ length: Math.ceil(replicas / size) }, (_, index) => Math.min(size, replicas - index * size));
}
