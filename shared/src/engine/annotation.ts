/** The annotation in Grafana of this transaction, where a Grafana is given. It comes at the end, and cannot fail it. */
import { SlipwayError } from '../errors';
import type { Host } from '../model/host';
import { Secret } from '../model/secret';
import type { HttpResponse, Ports } from '../ports';
import {
  type AnnotatedResult,
  type Annotation,
  type GrafanaLogin,
  isOnServer,
  judgeAnswer,
  renderAnnotation,
} from '../reporters/grafana-annotation';
import { type Transaction, type TransactionRequest, warn } from './transaction';
import type { TransactionResult } from './report';

/** Of the step's state: when the transaction began, while Grafana has not been told how it ended. */
export const ANNOTATION_STATE = 'annotation';

/** Once for the main step and the post step together. */
export interface ReleaseAnnotation {
  /** Never rejects; ends within `limitSeconds`. */
  settle(result: TransactionResult, limitSeconds: number): Promise<void>;
}

/** @param commit that goes live; empty where it is not known, and that of the run is taken. */
export function beginAnnotation(release: string, transaction: Transaction, commit = ''): void {
  const { inputs, ports, report } = transaction;
  if (inputs.grafana === undefined) return;
  const began = ports.clock.now();
  const target = commit || ports.runner.context.commit;
  ports.runner.saveState(ANNOTATION_STATE, JSON.stringify({ began: began.getTime(), commit: target }));
  report.annotation = {
    async settle(result, limitSeconds) {
      ports.runner.saveState(ANNOTATION_STATE, '');
      if (!isAnnotated(result)) return;
      const problem = await annotate({ release, commit: target, began, result }, transaction, ports, limitSeconds);
      if (problem !== undefined) warn(transaction, problem);
    },
  };
}

/** In the post step: what the main step has left untold. */
export async function endAnnotation(result: AnnotatedResult, request: TransactionRequest, ports: Ports): Promise<void> {
  const { runner, reporter } = ports;
  const state = runner.state(ANNOTATION_STATE);
  if (request.inputs.grafana === undefined || state === '') return;
  const { began, commit } = JSON.parse(state) as { readonly began: number; readonly commit: string };
  const event = { release: runner.state('release'), commit, began: new Date(began), result };
  const problem = await annotate(event, request, ports, 5);
  if (problem !== undefined) reporter.warning('Slipway', problem);
}

function isAnnotated(result: TransactionResult): result is AnnotatedResult {
  return ['deployed', 'rolled-back', 'reverted', 'failed', 'unknown'].includes(result);
}

interface Event {
  readonly release: string;
  readonly commit: string;
  readonly began: Date;
  readonly result: AnnotatedResult;
}

/** @returns what went wrong, as a sentence without the token */
async function annotate(
  event: Event,
  { task, project, inputs }: TransactionRequest,
  ports: Ports,
  limitSeconds: number,
): Promise<string | undefined> {
  const { grafana, environment } = inputs;
  if (grafana === undefined) return undefined;
  const { clock, runner } = ports;
  const { runUrl } = runner.context;
  const annotation = renderAnnotation({ ...event, task, project, environment, runUrl, ended: clock.now() });
  const where = new URL(grafana.url).host;
  try {
    const answer = await post(grafana, annotation, inputs.host, ports, limitSeconds);
    const problem = judgeAnswer(answer);
    return problem === undefined ? undefined : `Grafana at ${where} was not told of this ${task}: ${problem}.`;
  } catch (error) {
    const why = error instanceof SlipwayError ? error.message : 'the request failed';
    return `Grafana at ${where} was not told of this ${task}: ${ports.reporter.redact(why)}`;
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
    await session?.close();
  }
}
