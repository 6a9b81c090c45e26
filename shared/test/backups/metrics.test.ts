import fc from 'fast-check';
import { renderMetrics } from '../../src/backups/metrics';
import { backup, history, item, NOW, proof } from './sample-backups';

test('what there is, in the text format', () => {
  const backups = [
    backup(24, { items: [item('postgres:db/app', { proof: proof(4.5) }), item('redis:cache')] }),
    backup(1, {
      items: [item('postgres:db/app', { proof: undefined, bytes: 5000 })],
      scope: ['postgres:db'],
      seconds: 12,
    }),
  ];
  expect(renderMetrics('shop', backups, { ended: NOW, succeeded: false })).toBe(
    `# HELP slipway_backup_last_success_timestamp_seconds When the newest backup of a source was begun that is complete and not suspect, proven or not.
# TYPE slipway_backup_last_success_timestamp_seconds gauge
slipway_backup_last_success_timestamp_seconds{project="shop",source="postgres:db/app"} 1795383060
slipway_backup_last_success_timestamp_seconds{project="shop",source="redis:cache"} 1795300260
# HELP slipway_backup_last_proven_timestamp_seconds When the newest proven backup of a source was begun; 0 where it has none. Its age is what would be lost (RPO).
# TYPE slipway_backup_last_proven_timestamp_seconds gauge
slipway_backup_last_proven_timestamp_seconds{project="shop",source="postgres:db/app"} 1795300260
slipway_backup_last_proven_timestamp_seconds{project="shop",source="redis:cache"} 1795300260
# HELP slipway_backup_proven Whether the newest backup of a source was restored and compared, and is not suspect (1), or not (0).
# TYPE slipway_backup_proven gauge
slipway_backup_proven{project="shop",source="postgres:db/app"} 0
slipway_backup_proven{project="shop",source="redis:cache"} 1
# HELP slipway_backup_proof_duration_seconds What the proof of the newest proven backup of a source took: a recovery takes that at least (RTO).
# TYPE slipway_backup_proof_duration_seconds gauge
slipway_backup_proof_duration_seconds{project="shop",source="postgres:db/app"} 4.5
slipway_backup_proof_duration_seconds{project="shop",source="redis:cache"} 4
# HELP slipway_backup_size_bytes Stored size of the newest backup of a source.
# TYPE slipway_backup_size_bytes gauge
slipway_backup_size_bytes{project="shop",source="postgres:db/app"} 5000
slipway_backup_size_bytes{project="shop",source="redis:cache"} 1000000
# HELP slipway_backup_duration_seconds What the newest backup took, all its sources together.
# TYPE slipway_backup_duration_seconds gauge
slipway_backup_duration_seconds{project="shop"} 12
# HELP slipway_backup_suspect Whether the newest backup is suspect (1): it lost so much that somebody must look at it.
# TYPE slipway_backup_suspect gauge
slipway_backup_suspect{project="shop"} 0
# HELP slipway_backup_kept How many backups there are.
# TYPE slipway_backup_kept gauge
slipway_backup_kept{project="shop"} 2
# HELP slipway_backup_last_run_timestamp_seconds When the last run ended, whatever became of it.
# TYPE slipway_backup_last_run_timestamp_seconds gauge
slipway_backup_last_run_timestamp_seconds{project="shop"} 1795386660
# HELP slipway_backup_last_run_success Whether the last run succeeded (1) or failed (0).
# TYPE slipway_backup_last_run_success gauge
slipway_backup_last_run_success{project="shop"} 0
`,
  );
});

test('metrics of a failed run, while no backup is kept', () => {
  const text = renderMetrics('shop', [], { ended: NOW, succeeded: false });
  expect(text.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
    'slipway_backup_kept{project="shop"} 0',
    'slipway_backup_last_run_timestamp_seconds{project="shop"} 1795386660',
    'slipway_backup_last_run_success{project="shop"} 0',
    '',
  ]);
});

test('the newest is suspect: neither a success nor proven, and said', () => {
  const text = renderMetrics('shop', [backup(24), backup(1, { result: 'suspect' })]);
  expect(text).toContain('slipway_backup_suspect{project="shop"} 1\n');
  expect(text).toContain('slipway_backup_proven{project="shop",source="postgres:db/app"} 0\n');
  expect(text).toContain(
    'slipway_backup_last_success_timestamp_seconds{project="shop",source="postgres:db/app"} 1795300260\n',
  );
});

test('a source that was never proven is told, or no rule could see it', () => {
  const text = renderMetrics('shop', [backup(1, { items: [item('redis:cache', { proof: undefined })] })]);
  expect(text).toContain('slipway_backup_proven{project="shop",source="redis:cache"} 0\n');
  expect(text).toContain('slipway_backup_last_proven_timestamp_seconds{project="shop",source="redis:cache"} 0\n');
  expect(text).not.toContain('slipway_backup_proof_duration_seconds');
});

interface Parsed {
  readonly samples: readonly {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
  }[];
  readonly types: readonly string[];
}

/** The text format as its page has it. An escape is a backslash before one of three, and nothing else may follow one. */
const LABEL = /,?([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"/y;

function parseText(text: string): Parsed {
  const types: string[] = [];
  const samples: Parsed['samples'][number][] = [];
  if (!text.endsWith('\n')) throw new SyntaxError('the last line does not end');
  for (const line of text.slice(0, -1).split('\n')) {
    const [, type] = /^# TYPE (\S+) gauge$/.exec(line) ?? [];
    if (type !== undefined) types.push(type);
    if (line.startsWith('#')) continue;
    const [head = '', name = ''] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)\{/.exec(line) ?? [];
    if (name !== types.at(-1)) throw new SyntaxError(`${line}: not below its type`);
    const labels: Record<string, string> = {};
    LABEL.lastIndex = head.length;
    let end = head.length;
    for (let match = LABEL.exec(line); match !== null; match = LABEL.exec(line)) {
      const [, label = '', value = ''] = match;
      labels[label] = value.replaceAll(/\\(.)/g, (_all, escaped: string) => (escaped === 'n' ? '\n' : escaped));
      end = LABEL.lastIndex;
    }
    const [, value] = /^\} (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/.exec(line.slice(end)) ?? [];
    if (value === undefined) throw new SyntaxError(`${line}: no value`);
    samples.push({ name, labels, value: Number(value) });
  }
  return { samples, types };
}

test('any name comes back from the labels as it was (property)', () => {
  const unit = fc.oneof(
    fc.constantFrom('\\', '"', '\n', '\r', '{', '}', ',', '#', ' ', 'n'),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  );
  fc.assert(
    fc.property(fc.string({ unit }), fc.string({ unit }), (project, name) => {
      const source = `redis:${name}`;
      const { samples } = parseText(renderMetrics(project, [backup(1, { items: [item('redis:cache', { source })] })]));
      expect(new Set(samples.map(({ labels }) => labels['project']))).toEqual(new Set([project]));
      expect(new Set(samples.flatMap(({ labels }) => labels['source'] ?? []))).toEqual(new Set([source]));
    }),
    { numRuns: 1000 },
  );
});

test('over any history: no metric and no series twice, which would spoil the whole file (property)', () => {
  fc.assert(
    fc.property(history, (backups) => {
      const { samples, types } = parseText(renderMetrics('shop', backups, { ended: NOW, succeeded: true }));
      const series = samples.map(({ name, labels }) => JSON.stringify([name, labels]));
      expect(new Set(series).size).toBe(series.length);
      expect(new Set(types).size).toBe(types.length);
      expect(new Set(samples.map(({ name }) => name))).toEqual(new Set(types));
    }),
    { numRuns: 300 },
  );
});
