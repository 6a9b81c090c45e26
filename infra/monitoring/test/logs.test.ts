/** Loki, Alloy and Tempo cannot be run here: what can be said of their files without them. */
import { readFileSync } from 'node:fs';
import { parser as logql } from '@grafana/lezer-logql';
import { parse } from 'yaml';
import { type Block, listReferences, parseAlloy, type Value } from './alloy-syntax';
import { listQuestions, MONITORING } from './dashboards';

const read = (path: string): string => readFileSync(MONITORING + path, 'utf8');
const alloy = parseAlloy(read('alloy/config.alloy'));
const components = alloy.filter(({ label }) => label !== undefined);
const find = (name: string): Block => {
  const found = components.find((block) => `${block.name}.${block.label ?? ''}` === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
};
const text = (value: Value | undefined): string => {
  if (value?.kind !== 'literal') throw new Error('this is no literal');
  return String(value.value);
};
const fieldsOf = (block: Block | undefined, name: string): string[] => {
  const value = block?.attributes.get(name);
  return value?.kind === 'object' ? [...value.fields.keys()] : [];
};

describe('Alloy', () => {
  /** By https://grafana.com/docs/alloy/latest/reference/components/: what each takes, what it must have, and what it gives to others. */
  const COMPONENTS: Readonly<Record<string, { takes: string[]; needs: string[]; blocks: string[]; gives: string[] }>> =
    {
      'discovery.docker': { takes: ['host', 'refresh_interval'], needs: ['host'], blocks: [], gives: ['targets'] },
      'discovery.relabel': { takes: ['targets'], needs: ['targets'], blocks: ['rule'], gives: ['output', 'rules'] },
      'loki.source.docker': { takes: ['host', 'targets', 'labels', 'relabel_rules', 'forward_to'], needs: ['host', 'targets', 'forward_to'], blocks: [], gives: [] }, // prettier-ignore
      'local.file_match': { takes: ['path_targets', 'sync_period'], needs: ['path_targets'], blocks: [], gives: ['targets'] }, // prettier-ignore
      'loki.source.file': { takes: ['targets', 'forward_to'], needs: ['targets', 'forward_to'], blocks: [], gives: [] }, // prettier-ignore
      'loki.process': { takes: ['forward_to'], needs: ['forward_to'], blocks: ['stage.replace', 'stage.json', 'stage.template', 'stage.labels', 'stage.structured_metadata', 'stage.label_drop'], gives: ['receiver'] }, // prettier-ignore
      'loki.write': { takes: [], needs: [], blocks: ['endpoint'], gives: ['receiver'] },
      'otelcol.receiver.otlp': { takes: [], needs: [], blocks: ['http', 'output'], gives: [] },
      'otelcol.processor.memory_limiter': { takes: ['check_interval', 'limit', 'spike_limit'], needs: ['check_interval'], blocks: ['output'], gives: ['input'] }, // prettier-ignore
      'otelcol.processor.attributes': { takes: [], needs: [], blocks: ['action', 'output'], gives: ['input'] },
      'otelcol.processor.batch': { takes: [], needs: [], blocks: ['output'], gives: ['input'] },
      'otelcol.exporter.otlphttp': { takes: [], needs: [], blocks: ['client', 'retry_on_failure', 'sending_queue'], gives: ['input'] }, // prettier-ignore
    };

  test('each component is one that there is, once, with what it takes and needs', () => {
    const names = components.map(({ name, label }) => `${name}.${label ?? ''}`);
    expect(new Set(names).size).toBe(names.length);
    expect(alloy.filter(({ label }) => label === undefined).map(({ name }) => name)).toEqual(['logging']);
    for (const { name, attributes, blocks } of components) {
      const known = COMPONENTS[name];
      expect([name, known === undefined]).toEqual([name, false]);
      const given = [...attributes.keys()];
      expect([name, given.filter((one) => known?.takes.includes(one) !== true)]).toEqual([name, []]);
      expect([name, known?.needs.filter((one) => !given.includes(one))]).toEqual([name, []]);
      expect([name, blocks.filter((one) => known?.blocks.includes(one.name) !== true)]).toEqual([name, []]);
    }
  });

  test('each reference is to what a component gives, and none is left unused', () => {
    const given = components.flatMap(({ name, label }) =>
      (COMPONENTS[name]?.gives ?? []).map((one) => `${name}.${label ?? ''}.${one}`),
    );
    const used = components.flatMap(listReferences);
    expect(used.filter((name) => !given.includes(name))).toEqual([]);
    const idle = components.filter(({ name, label }) => {
      const gives = COMPONENTS[name]?.gives ?? [];
      return gives.length > 0 && !gives.some((one) => used.includes(`${name}.${label ?? ''}.${one}`));
    });
    expect(idle).toEqual([]);
    // Logs go to a receiver, traces to an input.
    for (const { name, attributes, blocks } of components) {
      const value =
        attributes.get('forward_to') ?? blocks.find((one) => one.name === 'output')?.attributes.get('traces');
      if (value === undefined) continue;
      const wanted = name.startsWith('loki.') ? /^loki\..*\.receiver$/ : /^otelcol\..*\.input$/;
      expect(value.kind === 'array' && value.items.every((one) => one.kind === 'reference' && wanted.test(one.name))).toBe(true); // prettier-ignore
    }
  });

  /** What the lines of a log are found by. */
  const listLabels = (): string[] => {
    const rules = find('discovery.relabel.containers').blocks.map(({ attributes }) =>
      text(attributes.get('target_label')),
    );
    const targets = find('local.file_match.nginx').attributes.get('path_targets');
    const ofFiles = (targets?.kind === 'array' ? targets.items : []).flatMap((one) =>
      one.kind === 'object' ? [...one.fields.keys()].filter((name) => !name.startsWith('__')) : [],
    );
    const ofLines = find('loki.process.lines').blocks.filter(({ name }) => name === 'stage.labels');
    const added = fieldsOf(find('loki.source.docker.containers'), 'labels');
    return [
      ...new Set([...rules, ...ofFiles, ...ofLines.flatMap((stage) => fieldsOf(stage, 'values')), ...added]),
    ].sort();
  };

  test('labels are few, and the dashboards ask by no other', () => {
    expect(listLabels()).toEqual(['level', 'project', 'service']);
    // The file source makes one more, which goes.
    const dropped = find('loki.process.lines')
      .blocks.find(({ name }) => name === 'stage.label_drop')
      ?.attributes.get('values');
    expect(dropped).toEqual({ kind: 'array', items: [{ kind: 'literal', value: 'filename' }] });
    for (const { where, expr } of listQuestions('loki')) {
      const asked: string[] = [];
      logql.parse(expr).iterate({
        enter: ({ name, node }) => {
          // `| json | seconds != ""` has matchers too, of what is in a line.
          const isOfStream = node.parent?.name === 'Matchers';
          if (name === 'Matcher' && isOfStream) asked.push(expr.slice(node.firstChild?.from, node.firstChild?.to));
        },
      });
      expect([where, asked.length > 0, asked.filter((label) => !listLabels().includes(label))]).toEqual([
        where,
        true,
        [],
      ]);
    }
  });

  /** Go's expressions are nearly JavaScript's; these use what both read the same, but for `(?i)`. */
  const redact = (line: string): string =>
    find('loki.process.lines')
      .blocks.filter(({ name }) => name === 'stage.replace')
      .reduce((current, { attributes }) => {
        const source = text(attributes.get('expression'));
        const pattern = new RegExp(source.replace(/^\(\?i\)/, ''), source.startsWith('(?i)') ? 'gid' : 'gd');
        const spans = [...current.matchAll(pattern)].flatMap(({ indices }) => (indices ?? []).slice(1));
        return spans
          .filter((span) => span !== undefined)
          .reduceRight(
            (done, [from, to]) => done.slice(0, from) + text(attributes.get('replace')) + done.slice(to),
            current,
          );
      }, line);

  test.each([
    '{"headers":{"authorization":"Bearer hunter2hunter2"}}',
    '{"headers":{"Authorization":"Basic aHVudGVyMg=="},"path":"/"}',
    'Authorization: hunter2hunter2',
    "{ authorization: 'Digest hunter2hunter2', host: 'shop' }",
    '{"x-api-key":"hunter2"}',
    '{"cookie":"session=hunter2; other=hunter2","status":200}',
    'set-cookie: session=hunter2; HttpOnly',
    'curl -H "bearer hunter2hunter2"',
    'connecting to postgres://app:hunter2@db:5432/app',
    'redis://:hunter2@cache:6379',
    'Authorization: ApiKey hunter2',
    'Authorization: Negotiate aHVudGVyMg==',
    'Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261122/s3/aws4_request, SignedHeaders=host, Signature=hunter2',
    'signed with AWS4-HMAC-SHA256 Credential=AKID, Signature=hunter2hunter2',
    'Authorization: Digest username="app", realm="shop", response="hunter2"',
    '{"authorization":"Digest username=\\"app\\", response=\\"hunter2\\"","status":200}',
    '{"msg":"sent Authorization: Digest username=\\"app\\", response=\\"hunter2\\"","status":200}',
    '{"msg":"sent Authorization: Basic aHVudGVyMg==","status":200}',
    '{"msg":"{\\"authorization\\":\\"Basic aHVudGVyMg==\\",\\"path\\":\\"/\\"}","status":200}',
    '{"msg":"{\\"authorization\\":\\"Digest a=\\\\\\"b\\\\\\", response=\\\\\\"hunter2\\\\\\"\\",\\"path\\":\\"/\\"}","status":200}',
    '{"msg":"{\\"body\\":\\"{\\\\\\"x-api-key\\\\\\":\\\\\\"hunter2\\\\\\"}\\"}","status":200}',
    '{"msg":"{\\"cookie\\":\\"session=hunter2; other=hunter2\\"}","status":200}',
    '{"headers":{"Authorization":["Basic aHVudGVyMg=="]},"status":200}',
    'GET /reset?token=hunter2 200',
    '{"path":"/callback?state=1&code=hunter2","status":200}',
    '{"path":"/feed?page=2\\u0026access_token=hunter2","status":200}',
    'GET /map?api-key=hunter2&zoom=3 200',
    'POST /login?password=hunter2&client_secret=hunter2',
    'connecting to postgres://app:not/hunter2@db:5432/app',
    'connecting to postgres://app:/hunter2@db:5432/app',
    'connecting to amqp://app:p@hunter2@queue',
    'connecting to amqp://app:4711@queue',
  ])('a secret goes: %s', (line) => {
    const safe = redact(line);
    expect(safe).not.toMatch(/hunter2|aHVudGVyMg|4711/);
    expect(safe).toContain('***');
    // What is read as JSON after it still is, with what stands beside the secret.
    const isRead = line.startsWith('{"') && line.endsWith('"status":200}');
    if (isRead) expect(JSON.parse(safe)).toMatchObject({ status: 200 });
  });

  test.each([
    '{"time":"2026-11-22T22:31:00Z","level":"info","message":"request","path":"/api/authors","status":200}',
    'GET https://shop.example/api/notes?x=1 200',
    'the bearer of this ticket may enter',
    'GET http://registry.example:4873/@scope/package?postcode=8000&country_code=CH 200',
    '{"upstream":"http://web:8080","mail":"somebody@shop.example"}',
    '{"cookies":3,"authorized":true,"keyboard":"de"}',
  ])('and nothing else does: %s', (line) => {
    expect(redact(line)).toBe(line);
  });

  test('secrets go before anything is taken out of a line, and from traces too', () => {
    const stages = find('loki.process.lines').blocks.map(({ name }) => name);
    expect(stages.lastIndexOf('stage.replace')).toBeLessThan(stages.indexOf('stage.json'));
    const action = find('otelcol.processor.attributes.secrets').blocks.find(
      ({ name }) => name === 'action',
    )?.attributes;
    const pattern = new RegExp(text(action?.get('pattern')).replace('(?i)', ''), 'i');
    expect(text(action?.get('action'))).toBe('delete');
    for (const name of [
      'http.request.header.authorization',
      'http.request.header.Cookie',
      'http.response.header.set-cookie',
    ]) {
      expect(pattern.test(name)).toBe(true);
    }
    expect(pattern.test('http.request.header.accept')).toBe(false);
  });

  test('a level is one of a few words', () => {
    const template = text(find('loki.process.lines').blocks.find(({ name }) => name === 'stage.template')?.attributes.get('template')); // prettier-ignore
    expect([...template.matchAll(/\(eq \$level "(\w+)"\)/g)].map(([, word]) => word)).toEqual(['debug', 'info', 'warn', 'error', 'fatal']); // prettier-ignore
  });

  test('it reads through the socket of Docker, and sends to services of the project', () => {
    expect(text(find('discovery.docker.containers').attributes.get('host'))).toBe('unix:///var/run/docker.sock');
    expect(text(find('loki.write.loki').blocks[0]?.attributes.get('url'))).toBe('http://loki:3100/loki/api/v1/push');
    expect(text(find('otelcol.exporter.otlphttp.tempo').blocks[0]?.attributes.get('endpoint'))).toBe(
      'http://tempo:4318',
    );
  });

  test('the reader of its syntax does find faults', () => {
    for (const wrong of [
      'a "b" {',
      'a "b" { c = }',
      'a "b" { c = [d e] }',
      'a = 1',
      'a "b" {\n c = 1 d = 2\n}',
      'a "b" {\n c = "x\n}',
    ]) {
      expect(() => parseAlloy(wrong)).toThrow(/line \d|only in blocks/);
    }
  });
});

test('Loki: the schema of now, and a retention that deletes', () => {
  const loki = parse(read('loki/loki.yaml')) as {
    schema_config: {
      configs: { from: string; store: string; object_store: string; schema: string; index: { period: string } }[];
    };
    compactor: { retention_enabled: boolean; delete_request_store: string; working_directory: string };
    limits_config: Record<string, unknown>;
    common: { path_prefix: string; storage: { filesystem: Record<string, string> } };
    server: { http_listen_port: number };
    analytics: { reporting_enabled: boolean };
  };
  expect(loki.schema_config.configs).toMatchObject([{ store: 'tsdb', object_store: 'filesystem', schema: 'v13', index: { period: '24h' } }]); // prettier-ignore
  expect(Date.parse(loki.schema_config.configs[0]?.from ?? '')).toBeLessThan(Date.now());
  expect(loki.compactor).toMatchObject({ retention_enabled: true, delete_request_store: 'filesystem' });
  // Loki wants whole days, at least one: https://grafana.com/docs/loki/latest/operations/storage/retention/
  const hours = Number(/^(\d+)h$/.exec(String(loki.limits_config['retention_period']))?.[1]);
  expect([hours >= 24, hours % 24]).toEqual([true, 0]);
  expect(Number.parseInt(String(loki.limits_config['max_query_length']))).toBeGreaterThanOrEqual(hours);
  expect(loki.limits_config).toMatchObject({ allow_structured_metadata: true, discover_service_name: [] });
  // The root of its container is read-only: everything is in its volume.
  const folders = [
    loki.common.path_prefix,
    loki.compactor.working_directory,
    ...Object.values(loki.common.storage.filesystem),
  ];
  expect(folders.filter((folder) => !folder.startsWith('/loki'))).toEqual([]);
  expect([loki.server.http_listen_port, loki.analytics.reporting_enabled]).toEqual([3100, false]);
});

test('Tempo: takes traces from other containers, and deletes old ones', () => {
  const tempo = parse(read('tempo/tempo.yaml')) as {
    server: { http_listen_port: number };
    distributor: { receivers: { otlp: { protocols: { http: { endpoint: string } } } } };
    compactor: { compaction: { block_retention: string } };
    storage: { trace: { backend: string; wal: { path: string }; local: { path: string } } };
    usage_report: { reporting_enabled: boolean };
  };
  expect(tempo.distributor.receivers.otlp.protocols.http.endpoint).toBe('0.0.0.0:4318');
  expect(tempo.compactor.compaction.block_retention).toMatch(/^\d+h$/);
  expect(tempo.storage.trace).toEqual({
    backend: 'local',
    wal: { path: '/var/tempo/wal' },
    local: { path: '/var/tempo/blocks' },
  });
  expect([tempo.server.http_listen_port, tempo.usage_report.reporting_enabled]).toEqual([3200, false]);
});
