/** The annotation in Grafana of this transaction, where a Grafana is given. It comes at the end, and cannot fail it. */
import { SlipwayError } from '../errors';
import type { Host } from '../model/host';
import { Secret } from '../model/secret';
import type { HttpResponse, Ports } from '../ports';
import {
  type AnnotatedResult,
  type Annotation,
  type GrafanaLogin,
  isFinalAnswer,
  isOnServer,
  judgeAnswer,
  renderAnnotation,
} from '../reporters/grafana-annotation';
import { type Transaction, type TransactionRequest, warn } from './transaction';
import type { TransactionResult } from './report';

/** Of the step's state: when the transaction began, while Grafana has not been told how it ended. */
export const ANNOTATION_STATE = 'annotation';

/** Once for the main step and the post step together, as far as Grafana answers. */
export interface ReleaseAnnotation {
  /**
   * Never rejects; ends within `limitSeconds`. Without a final answer, or for `unknown`, the state stays, so that the post step
   * can tell it.
   */
  settle(result: TransactionResult, limitSeconds: number): Promise<void>;
}

/** @param commit that goes live; empty where it is not known, and that of the run is taken. */
export function beginAnnotation(release: string, transaction: Transaction, commit = ''): void {
  const { inputs, ports, report } = transaction;
  if (inputs.grafana === undefined || inputs.grafana.token.isEmpty) return;
  const began = ports.clock.now();
  const target = commit || ports.runner.context.commit;
  ports.runner.saveState(
    ANNOTATION_STATE,
    JSON.stringify({ began: began.getTime(), commit: target, previous: report.previous }),
  );
  report.annotation = {
    async settle(result, limitSeconds) {
      // Who does not know yet what became of it leaves it to the post step to say.
      if (result === 'unknown') return;
      const event = { release, previous: report.previous, commit: target, began };
      const { problem, isFinal } = isAnnotated(result)
        ? await annotate({ ...event, result }, transaction, ports, limitSeconds)
        : { problem: undefined, isFinal: true };
      if (isFinal) ports.runner.saveState(ANNOTATION_STATE, '');
      if (problem !== undefined) warn(transaction, problem);
    },
  };
}

/** Half of what it takes: said before anything is begun, also in a dry run. */
export function warnOfAnnotation({ grafana }: TransactionRequest['inputs']): string[] {
  return grafana?.token.isEmpty === true
    ? [
        'Grafana is not told of this: `grafana-url` is given, and `grafana-token` is empty. The secret is not set in this repository or environment, or it is not handed to this (reusable) workflow.',
      ]
    : [];
}

/** In the post step: what the main step has left untold. */
export async function endAnnotation(result: AnnotatedResult, request: TransactionRequest, ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const state = runner.state(ANNOTATION_STATE);
  if (request.inputs.grafana === undefined || state === '') return;
  const { began, ...known } = JSON.parse(state) as { began: number } & Pick<Event, 'commit' | 'previous'>;
  const event = { ...known, release: runner.state('release'), began: new Date(began), result };
  const { problem } = await annotate(event, request, ports, 5);
  if (problem !== undefined) reporter.warning('Slipway', problem);
}

function isAnnotated(result: TransactionResult): result is AnnotatedResult {
  return ['deployed', 'rolled-back', 'reverted', 'failed', 'unknown'].includes(result);
}

interface Event {
  readonly release: string;
  readonly previous: string;
  readonly commit: string;
  readonly began: Date;
  readonly result: AnnotatedResult;
}

interface Told {
  /** What went wrong, as a sentence without the token. */
  readonly problem: string | undefined;
  /** To say it again would change nothing. */
  readonly isFinal: boolean;
}

async function annotate(
  event: Event,
  { task, project, inputs }: TransactionRequest,
  ports: Ports,
  limitSeconds: number,
): Promise<Told> {
  const { grafana, environment } = inputs;
  if (grafana === undefined) return { problem: undefined, isFinal: true };
  const { clock, runner } = ports;
  const { runUrl } = runner.context;
  const annotation = renderAnnotation({ ...event, task, project, environment, runUrl, ended: clock.now() });
  const untold = `Grafana at ${new URL(grafana.url).host} was not told of this ${task}`;
  try {
    const answer = await post(grafana, annotation, inputs.host, ports, limitSeconds);
    const problem = judgeAnswer(answer);
    return { problem: problem === undefined ? undefined : `${untold}: ${problem}.`, isFinal: isFinalAnswer(answer) };
  } catch (error) {
    const why = error instanceof SlipwayError ? error.message : 'the request failed';
    return { problem: `${untold}: ${ports.reporter.redact(why)}`, isFinal: false };
  }
}

/** A Grafana of the server's own is asked through a connection to the server. */
async function post(
  { url, token }: GrafanaLogin,
  annotation: Annotation,
  host: Host,
  { connect, http, clock }: Ports,
  limitSeconds: number,
): Promise<HttpResponse> {
  const deadlineMs = clock.monotonicMs() + limitSeconds * 1000;
  const session =
    isOnServer(url) && host.kind !== 'local' ? await connect(host, { timeoutSeconds: limitSeconds }) : undefined;
  try {
    return await http.request({
      method: 'POST',
      url: `${url}/api/annotations`,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        authorization: new Secret(`Bearer ${token.reveal()}`),
      },
      content: JSON.stringify(annotation),
      timeoutSeconds: Math.max(0.1, (deadlineMs - clock.monotonicMs()) / 1000),
      maxBodyBytes: 64 * 1024,
      ...(session === undefined ? {} : { dial: (to, port) => session.dial(to, port) }),
    });
  } finally {
    // It may take seconds that are not ours any more.
    session?.close().catch(() => undefined);
  }
}
