/** What there is to go back to. Pure. */
import { listImages } from '#shared/engine/images';
import { readJournalRelease } from '#shared/guardian/journal';
import type { Release } from '#shared/model/release';
import { listFailed, newestFirst } from '#shared/releases/choose';
import { formatTable } from '#shared/reporters/markdown';
import type { ServerFacts } from '#shared/server/facts';

/** One release as the output `releases` has it. */
export interface ListedRelease {
  readonly id: string;
  readonly serves: boolean;
  readonly created: string;
  readonly commit: string;
  readonly ref: string;
  readonly actor: string;
  readonly runUrl: string;
  /** `failed`: somebody went back from it; `under way`: it is being tried, and may be taken back. */
  readonly result: 'healthy' | 'adopted' | 'failed' | 'under way';
  /** Id of the release that it brought back. */
  readonly rollbackOf: string;
  /** By service. */
  readonly images: Readonly<Record<string, string>>;
  /** Against what serves now, by service: `image`, `configuration`, `added`, `removed`. */
  readonly changes: Readonly<Record<string, string>>;
  /** Whether all its images are on the server. */
  readonly imagesPresent: boolean;
  /** For people. */
  readonly line: string;
}

/** Newest first. */
export function describeReleases(
  facts: Pick<ServerFacts, 'releases' | 'current' | 'images' | 'journal'>,
): ListedRelease[] {
  const underWay = findUnderWay(facts);
  const failed = listFailed(facts.releases);
  const serving = facts.releases.find(({ id }) => id === facts.current);
  return newestFirst(facts.releases).map((release) => {
    const listed = {
      id: release.id,
      serves: release.id === facts.current,
      created: release.created,
      commit: release.commit,
      ref: release.ref,
      actor: release.actor,
      runUrl: release.runUrl,
      result:
        release.id === underWay
          ? ('under way' as const)
          : failed.has(release.id)
            ? ('failed' as const)
            : release.result,
      rollbackOf: release.rollback?.of ?? '',
      images: Object.fromEntries(Object.entries(release.services).map(([name, { image }]) => [name, image])),
      changes: compareReleases(release, serving),
      imagesPresent: listImages(release, facts.images).every(({ present }) => present),
    };
    return { ...listed, line: describeLine(listed) };
  });
}

function compareReleases(release: Release, serving: Release | undefined): Record<string, string> {
  if (serving === undefined || serving.id === release.id) return {};
  const names = [...new Set([...Object.keys(release.services), ...Object.keys(serving.services)])].sort();
  return Object.fromEntries(
    names.flatMap((name) => {
      const [then, now] = [release.services[name], serving.services[name]];
      if (then === undefined) return [[name, 'removed']];
      if (now === undefined) return [[name, 'added']];
      if (then.image !== now.image) return [[name, 'image']];
      return then.configHash === now.configHash ? [] : [[name, 'configuration']];
    }),
  );
}

const RESULTS = {
  healthy: 'healthy',
  adopted: 'found running',
  failed: 'gone back from',
  'under way': 'under way',
} as const;

/** Id of a release that is being tried: not decided yet. */
export function findUnderWay({ journal, current }: Pick<ServerFacts, 'journal' | 'current'>): string | undefined {
  const release = readJournalRelease(journal);
  return release === current ? undefined : release;
}

function describeLine(release: Omit<ListedRelease, 'line'>): string {
  const parts = [
    release.serves ? 'serves' : RESULTS[release.result],
    release.ref,
    release.actor === '' ? '' : `by ${release.actor}`,
    release.rollbackOf === '' ? '' : `rollback to ${release.rollbackOf}`,
    describeDifference(release),
    release.imagesPresent ? '' : 'its images are gone from the server',
  ];
  return `${release.serves ? '*' : ' '} ${release.id}  ${parts.filter((part) => part !== '').join('; ')}`;
}

function describeDifference({ serves, changes }: Pick<ListedRelease, 'serves' | 'changes'>): string {
  if (serves) return '';
  const words = Object.entries(changes).map(([name, change]) => `${name} (${change})`);
  return words.length === 0 ? 'the same as what serves' : `differs in ${words.join(', ')}`;
}

/** For the summary. */
export function renderReleases(releases: readonly ListedRelease[]): string {
  return formatTable(
    ['Release', 'Result', 'When', 'Commit', 'Ref', 'By', 'Against what serves', 'Images', 'On the server'],
    releases.map((release) => [
      release.id,
      release.serves ? 'serves' : RESULTS[release.result],
      release.created,
      release.commit.slice(0, 7),
      release.ref,
      release.actor,
      describeDifference(release),
      Object.entries(release.images)
        .map(([name, image]) => `${name}: ${image.replace(/@sha256:([0-9a-f]{12})[0-9a-f]*$/, '@$1')}`)
        .join(', '),
      release.imagesPresent ? 'yes' : 'no: they must be pulled',
    ]),
  );
}
