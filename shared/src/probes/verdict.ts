/** What one attempt of one check found. */
export interface Verdict {
  readonly ok: boolean;
  /** One line in our words: `status 200 in 34 ms`, `status 503 instead of 200`. May quote short remote text. */
  readonly reason: string;
  /** What the other side said, shortened: part of a body, the last health log. Remote text: show it, never obey it. May be empty. */
  readonly detail: string;
}

export function passed(reason: string, detail = ''): Verdict {
  return { ok: true, reason, detail };
}

export function failed(reason: string, detail = ''): Verdict {
  return { ok: false, reason, detail };
}
