/** What a backup tells Prometheus, for the textfile collector of node-exporter: pure. */
import { type Backup, listLivingSources, listNewestProven, newestBackupsFirst } from '../model/backup';

/** What became of the run that writes the metrics. */
export interface BackupRun {
  readonly ended: Date;
  readonly succeeded: boolean;
}

interface Sample {
  readonly source?: string;
  readonly value: number;
}

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

/**
 * Text in https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Samples have no timestamps: the
 * collector refuses files that have one. The help of a metric is the same in every file, as it must be: one project, one file.
 *
 * @param backups of one project, in any order.
 * @param run left out where none was made.
 */
export function renderMetrics(project: string, backups: readonly Backup[], run?: BackupRun): string {
  return describeMetrics(backups, run)
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, help, samples }) =>
      [
        `# HELP ${name} ${escapeHelp(help)}`,
        `# TYPE ${name} gauge`,
        ...samples.map(
          ({ source, value }) =>
            `${name}${renderLabels({ project, ...(source === undefined ? {} : { source }) })} ${renderNumber(value)}`,
        ),
        '',
      ].join('\n'),
    )
    .join('');
}

function describeMetrics(backups: readonly Backup[], run: BackupRun | undefined): Metric[] {
  const newestFirst = newestBackupsFirst(backups);
  const [newest] = newestFirst;
  const proven = listNewestProven(backups);
  const sources = listLivingSources(backups);
  const seconds = (time: string): number => Date.parse(time) / 1000;
  const bySource = (value: (source: string) => number | undefined): Sample[] =>
    sources.flatMap((source) => {
      const found = value(source);
      return found === undefined ? [] : [{ source, value: found }];
    });
  const newestWith = (source: string, suspectToo: boolean): Backup | undefined =>
    newestFirst.find(
      ({ result, items }) => (suspectToo || result !== 'suspect') && items.some((item) => item.source === source),
    );
  const itemOf = (backup: Backup | undefined, source: string): Backup['items'][number] | undefined =>
    backup?.items.find((item) => item.source === source);
  return [
    {
      name: 'slipway_backup_last_success_timestamp_seconds',
      help: 'When the newest backup of a source was begun that is complete and not suspect, proven or not.',
      samples: bySource((source) => {
        const backup = newestWith(source, false);
        return backup && seconds(backup.created);
      }),
    },
    {
      name: 'slipway_backup_last_proven_timestamp_seconds',
      help: 'When the newest proven backup of a source was begun; 0 where it has none. Its age is what would be lost (RPO).',
      samples: bySource((source) => {
        const found = proven.get(source);
        return found === undefined ? 0 : seconds(found.backup.created);
      }),
    },
    {
      name: 'slipway_backup_proven',
      help: 'Whether the newest backup of a source was restored and compared, and is not suspect (1), or not (0).',
      samples: bySource((source) => (newestWith(source, true)?.id === proven.get(source)?.backup.id ? 1 : 0)),
    },
    {
      name: 'slipway_backup_proof_duration_seconds',
      help: 'What the proof of the newest proven backup of a source took: a recovery takes that at least (RTO).',
      samples: bySource((source) => proven.get(source)?.item.proof?.seconds),
    },
    {
      name: 'slipway_backup_size_bytes',
      help: 'Stored size of the newest backup of a source.',
      samples: bySource((source) => itemOf(newestWith(source, true), source)?.bytes),
    },
    {
      name: 'slipway_backup_duration_seconds',
      help: 'What the newest backup took, all its sources together.',
      samples: newest === undefined ? [] : [{ value: newest.seconds }],
    },
    {
      name: 'slipway_backup_suspect',
      help: 'Whether the newest backup is suspect (1): it lost so much that somebody must look at it.',
      samples: newest === undefined ? [] : [{ value: newest.result === 'suspect' ? 1 : 0 }],
    },
    {
      name: 'slipway_backup_kept',
      help: 'How many backups there are.',
      samples: [{ value: backups.length }],
    },
    {
      name: 'slipway_backup_last_run_timestamp_seconds',
      help: 'When the last run ended, whatever became of it.',
      samples: run === undefined ? [] : [{ value: run.ended.getTime() / 1000 }],
    },
    {
      name: 'slipway_backup_last_run_success',
      help: 'Whether the last run succeeded (1) or failed (0).',
      samples: run === undefined ? [] : [{ value: run.succeeded ? 1 : 0 }],
    },
  ];
}

/** Backslash, quote and line feed, and nothing else, are escaped; the text is UTF-8. */
function renderLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => {
    const escaped = value.toWellFormed().replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
    return `${name}="${escaped}"`;
  });
  return `{${pairs.join(',')}}`;
}

function escapeHelp(help: string): string {
  return help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

/** As Go's ParseFloat takes it. */
function renderNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  return String(value);
}
