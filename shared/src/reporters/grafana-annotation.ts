/** What Grafana is told of a release: a mark over the time of the deploy, on every dashboard that shows the tag `slipway`. Pure. */
import type { Parsed } from '../inputs/values';
import { Secret } from '../model/secret';
import type { HttpResponse } from '../ports';

/** Where Grafana is, and a token of a service account of it. */
export interface GrafanaLogin {
  /** Without a slash at its end. */
  readonly url: string;
  readonly token: Secret;
}

/** How it ended, where something was begun. */
export type AnnotatedResult = 'deployed' | 'rolled-back' | 'reverted' | 'failed' | 'unknown';

export interface ReleaseEvent {
  readonly task: 'deploy' | 'rollback';
  readonly project: string;
  /** Empty: not said. */
  readonly environment: string;
  readonly release: string;
  /** What served before it; empty where nothing did. */
  readonly previous: string;
  /** Empty where it is not known. */
  readonly commit: string;
  readonly runUrl: string;
  readonly began: Date;
  readonly ended: Date;
  readonly result: AnnotatedResult;
}

/** https://grafana.com/docs/grafana/latest/developers/http_api/annotations/#create-annotation */
export interface Annotation {
  /** Milliseconds since 1970; with both, it is drawn as a region. */
  readonly time: number;
  readonly timeEnd: number;
  readonly tags: readonly string[];
  readonly text: string;
}

/** Parses the input `grafana-url`. The value may hold a login by mistake, so no message shows it. */
export function parseGrafanaUrl(text: string): Parsed<string> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || /\s/.test(text)) {
    return { problem: 'is not an address: give that of Grafana, such as `https://grafana.example.com`.' };
  }
  if (url.username !== '' || url.password !== '') {
    return { problem: 'has a login in it: give a token of a service account as `grafana-token` instead.' };
  }
  if (url.search !== '' || url.hash !== '') {
    return { problem: 'is the address of a page: give that of Grafana alone, without `?` and `#`.' };
  }
  if (url.protocol === 'http:' && !isOnServer(url.href)) {
    return {
      problem:
        'begins with `http://`, which shows the token to whoever is on the way: give `https://`, or the address of a Grafana on the server itself, such as `http://127.0.0.1:3000`.',
    };
  }
  if (url.hostname === 'localhost.') url.hostname = 'localhost';
  return { value: `${url.origin}${url.pathname}`.replace(/\/+$/, '') };
}

/** Parses the input `grafana-token`; empty: nothing can be told, which is a warning and no problem. */
export function parseGrafanaToken(text: string): Parsed<Secret> {
  // The HTTP library would put a header's value that it refuses into its error.
  return /^[\x21-\x7e]*$/.test(text)
    ? { value: new Secret(text) }
    : { problem: 'holds no token: it has spaces, line breaks or other characters that no token has.' };
}

/** Grafana on the server itself, as infra/monitoring has it: only the server can reach it. */
export function isOnServer(url: string): boolean {
  return /^(localhost\.?|127(\.\d+){3}|\[::1\])$/.test(new URL(url).hostname);
}

const TITLES: Readonly<Record<AnnotatedResult, string>> = {
  deployed: 'Deployed',
  'rolled-back': 'Rolled back',
  reverted: 'Failed, and put back',
  failed: 'FAILED',
  unknown: 'Unknown how it ended',
};

export function renderAnnotation(event: ReleaseEvent): Annotation {
  const { project, environment, release, commit, runUrl, began, ended, result } = event;
  const title = describeResult(event);
  const parts = [
    `${title}: ${project}`,
    `release ${release}`,
    ...(commit === '' ? [] : [`commit ${commit.slice(0, 12)}`]),
  ].map(escapeHtml);
  // Grafana shows a text as HTML, of which it takes out what could do harm.
  if (/^https?:\/\//.test(runUrl)) parts.push(`<a href="${escapeHtml(runUrl)}">run</a>`);
  return {
    time: began.getTime(),
    timeEnd: Math.max(ended.getTime(), began.getTime()),
    tags: ['slipway', project, ...(environment === '' ? [] : [environment]), result],
    text: parts.join('<br>'),
  };
}

function describeResult({ task, result, previous }: ReleaseEvent): string {
  if (task === 'rollback' && result === 'deployed') return TITLES['rolled-back'];
  // There was nothing to put back.
  return result === 'reverted' && previous === '' ? 'Failed, and removed again' : TITLES[result];
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ENTITIES[character] ?? '');
}

/** What is wrong with an answer, as the end of a sentence; undefined where nothing is. Nothing that Grafana says is quoted. */
export function judgeAnswer({ status, body }: Pick<HttpResponse, 'status' | 'body'>): string | undefined {
  if (status === 200) {
    return isAdded(body) ? undefined : 'what answered (200) is not Grafana: check `grafana-url`';
  }
  switch (status) {
    case 401:
      return 'it does not accept the token (401): it may have expired, or be of another Grafana';
    case 403:
      return 'the token may not do that (403): give its service account the role Editor, or the permission annotations:create';
    case 404:
      return 'there is no such address (404): check `grafana-url`, with the path that Grafana has behind a proxy';
    default:
      return status >= 300 && status < 400
        ? `it sends us elsewhere (${status}): give the address that it ends at as \`grafana-url\``
        : `it answered ${status}`;
  }
}

/** Whether it says for good what became of it: after anything else it may be told once more. */
export function isFinalAnswer({ status }: Pick<HttpResponse, 'status'>): boolean {
  return status < 500 && ![408, 429].includes(status);
}

function isAdded(body: string): boolean {
  try {
    const answer: unknown = JSON.parse(body);
    return typeof answer === 'object' && answer !== null && 'id' in answer && Number.isSafeInteger(answer.id);
  } catch {
    return false;
  }
}
