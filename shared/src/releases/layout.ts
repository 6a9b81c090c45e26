/** Where everything is in the release store: pure. See infra/docs/ARCHITECTURE.md, "The release store". */

export interface StoreLayout {
  /** The Compose project directory. */
  readonly project: string;
  /** 0700. */
  readonly store: string;
  readonly journal: string;
  readonly releases: string;
  readonly files: string;
  readonly current: string;
}

/** @param projectPath absolute, without a slash at its end. */
export function layoutStore(projectPath: string): StoreLayout {
  const store = `${projectPath}/.slipway`;
  return {
    project: projectPath,
    store,
    journal: `${store}/journal`,
    releases: `${store}/releases`,
    files: `${store}/files`,
    current: `${store}/current`,
  };
}

export function releaseComposeFile(layout: StoreLayout, releaseId: string): string {
  return `${layout.releases}/${releaseId}/compose.yaml`;
}

/** `20261122T223100Z-ab12cd3`; without a commit, `20261122T223100Z-manual`. */
export function makeReleaseId(now: Date, commit: string, instead = 'manual'): string {
  const time = now.toISOString().replaceAll(/[-:]|\.\d+/g, '');
  return `${time}-${/^[0-9a-f]{7,}$/i.test(commit) ? commit.slice(0, 7).toLowerCase() : instead}`;
}

/**
 * The time for the next id: now, or just after the newest release there is, where the clock of an earlier runner was ahead of ours. Ids
 * sort by time, and no two are the same.
 */
export function nextReleaseTime(now: Date, ids: readonly string[]): Date {
  const newest = ids.filter(isReleaseId).sort().at(-1);
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/.exec(newest ?? '') ?? [];
  if (year === undefined) return now;
  const last = Date.parse(`${year}-${month ?? ''}-${day ?? ''}T${hour ?? ''}:${minute ?? ''}:${second ?? ''}Z`);
  return Number.isNaN(last) ? now : new Date(Math.max(now.getTime(), last + 1000));
}

const RELEASE_ID = /^\d{8}T\d{6}Z-[a-z0-9]{1,40}$/;

export function isReleaseId(text: string): boolean {
  return RELEASE_ID.test(text);
}
