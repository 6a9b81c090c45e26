import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type ContainerExpectation,
  type ContainerState,
  inspectContainers,
  judgeContainer,
  judgeService,
  parseContainers,
  parseWatchLine,
} from '../../src/probes/container';
import { renderCommand } from '../../src/shell/render';

const inspected = {
  Id: 'f00d',
  Name: '/shop-web-1',
  Image: 'sha256:1234',
  RestartCount: 2,
  State: {
    Status: 'running',
    OOMKilled: false,
    ExitCode: 0,
    Error: '',
    StartedAt: '2026-11-22T12:00:00.5Z',
    Health: {
      Status: 'unhealthy',
      FailingStreak: 3,
      Log: [
        { ExitCode: 0, Output: 'ok' },
        { ExitCode: 1, Output: 'connection refused\n' },
      ],
    },
  },
  Mounts: [
    { Type: 'volume', Name: 'shop_files', Source: '/var/lib/docker/volumes/shop_files/_data', Destination: '/files' },
    { Type: 'bind', Source: '/home/deploy/app', Destination: '/etc/app', RW: false },
  ],
  Config: {
    Image: 'ghcr.io/acme/web@sha256:abcd',
    Env: ['PASSWORD=secret'],
    Labels: {
      'com.docker.compose.project': 'shop',
      'com.docker.compose.service': 'web',
      'com.docker.compose.config-hash': 'c0ffee',
      'com.docker.compose.container-number': '1',
      'com.docker.compose.oneoff': 'False',
    },
  },
};

const web: ContainerState = {
  id: 'f00d',
  name: 'shop-web-1',
  project: 'shop',
  service: 'web',
  image: 'ghcr.io/acme/web@sha256:abcd',
  imageId: 'sha256:1234',
  state: 'running',
  health: 'healthy',
  healthLog: [],
  exitCode: 0,
  oomKilled: false,
  error: '',
  restartCount: 0,
  startedAt: '2026-11-22T12:00:00.5Z',
  configHash: 'c0ffee',
  number: 1,
  oneoff: false,
  mounts: [
    { type: 'volume', name: 'shop_files', destination: '/files' },
    { type: 'bind', name: '', destination: '/etc/app' },
  ],
};

describe('parseContainers', () => {
  test('reads what docker inspect prints', () => {
    expect(parseContainers(JSON.stringify([inspected]))).toEqual([
      {
        ...web,
        restartCount: 2,
        health: 'unhealthy',
        healthLog: [
          { exitCode: 0, output: 'ok' },
          { exitCode: 1, output: 'connection refused\n' },
        ],
      },
    ]);
  });

  test('a container that has no health check, no labels, nothing', () => {
    expect(
      parseContainers(
        '[{"Id":"a","Name":"/b","State":{"Status":"exited","ExitCode":137,"OOMKilled":true,"Health":null},"Config":{"Labels":null}}]',
      ),
    ).toMatchObject([
      {
        id: 'a',
        name: 'b',
        project: '',
        service: '',
        state: 'exited',
        exitCode: 137,
        oomKilled: true,
        health: 'none',
        healthLog: [],
        number: 0,
        oneoff: false,
        mounts: [],
      },
    ]);
    expect(parseContainers('[]')).toEqual([]);
    expect(parseContainers('[null, 7]')).toHaveLength(2);
    for (const mounts of ['null', '{}', '7']) {
      expect(parseContainers(`[{"Mounts":${mounts}}]`)[0]?.mounts).toEqual([]);
    }
    expect(parseContainers('[{"Mounts":[null]}]')[0]?.mounts).toEqual([{ type: '', name: '', destination: '' }]);
  });

  test.each(['', '{}', 'null', '[', 'Cannot connect to the Docker daemon'])(
    'an answer that cannot be read is not "no containers": %j',
    (text) => {
      expect(() => parseContainers(text)).toThrow(SyntaxError);
    },
  );
});

const EXPECTED: ContainerExpectation = { state: 'running', health: 'auto' };

describe('judgeContainer', () => {
  test.each<[string, Partial<ContainerState>, Partial<ContainerExpectation>, boolean, string]>([
    ['healthy', {}, {}, true, 'shop-web-1 is running, healthy'],
    ['healthy after restarts', { restartCount: 1 }, {}, true, 'shop-web-1 is running, healthy, restarted once'],
    [
      'too many restarts',
      { restartCount: 4 },
      { maxRestarts: 0 },
      false,
      'shop-web-1 was restarted 4 times, more than 0: it may be in a crash loop',
    ],
    ['unhealthy', { health: 'unhealthy' }, {}, false, 'shop-web-1 is unhealthy'],
    [
      'unhealthy, but only running is asked',
      { health: 'unhealthy' },
      { health: 'any' },
      true,
      'shop-web-1 is running, unhealthy',
    ],
    ['starting', { health: 'starting' }, {}, false, 'shop-web-1 is still starting (health: starting)'],
    ['no health check', { health: 'none' }, {}, true, 'shop-web-1 is running'],
    [
      'no health check where health is expected',
      { health: 'none' },
      { health: 'healthy' },
      false,
      'shop-web-1 has no health check: give its service a `healthcheck` in the Compose file, or its image a HEALTHCHECK, or ask for `health: any`',
    ],
    [
      'crash loop',
      { state: 'restarting', exitCode: 1, restartCount: 7 },
      {},
      false,
      'shop-web-1 keeps restarting: it ended with exit code 1, restarted 7 times',
    ],
    [
      'exited',
      { state: 'exited', exitCode: 2, error: 'no such file' },
      {},
      false,
      'shop-web-1 has exited with code 2 (no such file)',
    ],
    [
      'out of memory',
      { state: 'exited', exitCode: 137, oomKilled: true },
      {},
      false,
      'shop-web-1 was killed for lack of memory (exit code 137)',
    ],
    [
      'never started',
      { state: 'created', error: 'port is already allocated' },
      {},
      false,
      'shop-web-1 was created but not started (port is already allocated)',
    ],
    ['paused', { state: 'paused' }, {}, false, 'shop-web-1 is paused'],
    ['state unknown', { state: '' }, {}, false, 'shop-web-1 has no state that can be read'],
    [
      'one-shot that ended well',
      { state: 'exited', health: 'none' },
      { state: 'exited' },
      true,
      'shop-web-1 is exited',
    ],
    [
      'one-shot that failed',
      { state: 'exited', exitCode: 1 },
      { state: 'exited' },
      false,
      'shop-web-1 has exited with code 1',
    ],
    [
      'one-shot that still runs',
      {},
      { state: 'exited' },
      false,
      'shop-web-1 is running, and was expected to have exited',
    ],
  ])('%s', (_, container, expected, ok, reason) => {
    expect(judgeContainer({ ...web, ...container }, { ...EXPECTED, ...expected })).toMatchObject({ ok, reason });
  });

  test('shows what the health check said last, on one line', () => {
    const verdict = judgeContainer(
      { ...web, health: 'unhealthy', healthLog: [{ exitCode: 1, output: '::error::x\r\n\u001b[2Jrefused' }] },
      EXPECTED,
    );
    expect(verdict.detail).toBe('health check exit code 1: ::error::x [2Jrefused');
  });
});

describe('judgeService', () => {
  test('all replicas must hold', () => {
    const second = { ...web, name: 'shop-web-2', health: 'unhealthy' as const };
    expect(judgeService('web', 'shop', [web, second], EXPECTED)).toMatchObject({
      ok: false,
      reason: '1 of 2 replicas: shop-web-2 is unhealthy',
    });
    expect(judgeService('web', 'shop', [web, { ...second, health: 'healthy' }], EXPECTED)).toMatchObject({
      ok: true,
      reason: 'shop-web-1 is running, healthy; shop-web-2 is running, healthy',
    });
  });

  test('one-off containers and other services are left out', () => {
    const oneoff = { ...web, name: 'shop-web-run-1', state: 'exited', exitCode: 1, oneoff: true };
    expect(
      judgeService('web', 'shop', [oneoff, web, { ...web, service: 'db', state: 'exited' }], EXPECTED),
    ).toMatchObject({ ok: true });
  });

  test('none is not healthy', () => {
    expect(judgeService('api', 'shop', [], EXPECTED)).toMatchObject({
      ok: false,
      reason: 'project shop has no containers on this server',
    });
    expect(judgeService('api', 'shop', [{ ...web, service: 'db' }, web], EXPECTED)).toMatchObject({
      ok: false,
      reason: 'project shop has no container of service api, only of: db, web',
    });
  });
});

describe('inspectContainers', () => {
  test('passes the project as a word, whatever it holds', () => {
    expect(inspectContainers(`x'; rm -rf /; '`).words.at(4)).toBe(`x'; rm -rf /; '`);
    expect(renderCommand(inspectContainers(`x'$(id)`))).toContain(` slipway 'x'\\''$(id)' `);
  });

  /** Runs the real script with a docker of our own that keeps a record of how it was called. */
  function ask(docker: string): { stdout: string; exitCode: number; calls: string } {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-docker-'));
    try {
      writeFileSync(join(folder, 'docker'), `#!/bin/sh\nprintf '%s\\n' "$*" >>"${folder}/calls"\n${docker}`);
      chmodSync(join(folder, 'docker'), 0o755);
      const [program, ...args] = inspectContainers('shop').words;
      const calls = (): string =>
        existsSync(join(folder, 'calls')) ? readFileSync(join(folder, 'calls'), 'utf8') : '';
      try {
        const stdout = execFileSync(program, args, {
          env: { PATH: `${folder}:/usr/bin:/bin` },
          encoding: 'utf8',
          stdio: 'pipe',
        });
        return { stdout, exitCode: 0, calls: calls() };
      } catch (error) {
        return { stdout: '', exitCode: (error as { status: number }).status, calls: calls() };
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test('no containers', () => {
    const { stdout, calls } = ask('exit 0');
    expect(parseContainers(stdout)).toEqual([]);
    expect(calls).toBe('ps -aq --no-trunc --filter label=com.docker.compose.project=shop\n');
  });

  test.each([1, 2, 3])('%i containers, as a JSON array', (count) => {
    const ids = Array.from({ length: count }, (_, index) => `id${index}`);
    const lines = ids.map((id) => JSON.stringify({ ...inspected, Id: id, Name: `/it's "\\n" ${id}` })).join('\n');
    const { stdout } = ask(
      `case $1 in ps) printf '%s\\n' ${ids.join(' ')};; inspect) cat <<'END'\n${lines}\nEND\n;; esac`,
    );
    expect(parseContainers(stdout).map((container) => container.id)).toEqual(ids);
    expect(parseContainers(stdout)[0]?.name).toBe(`it's "\\n" id0`);
  });

  test('a container that goes away in between: asked again', () => {
    const { stdout, calls } = ask(
      `case $1 in
        ps) [ $(grep -c ^ps "\${0%/*}/calls") -gt 1 ] && echo b || printf 'a\\nb\\n';;
        inspect) case $* in *' a '*) echo '{"Id":"b"}'; exit 1;; *) echo '{"Id":"b"}';; esac;;
      esac`,
    );
    expect(parseContainers(stdout)).toHaveLength(1);
    expect(calls.match(/^ps /gm)).toHaveLength(2);
  });

  test('Docker that cannot be asked is an error, and asked five times at most', () => {
    expect(ask('exit 3')).toMatchObject({ exitCode: 3 });
    const { exitCode, calls } = ask('case $1 in ps) echo a;; *) exit 1;; esac');
    expect(exitCode).toBe(1);
    expect(calls.match(/^inspect /gm)).toHaveLength(5);
  });
});

describe('parseWatchLine', () => {
  test('what the watch prints', () => {
    expect(parseWatchLine('same')).toEqual({ kind: 'same' });
    expect(parseWatchLine('containers []')).toEqual({ kind: 'containers', containers: [] });
    expect(parseWatchLine(`containers ${JSON.stringify([inspected])}`)).toMatchObject({
      kind: 'containers',
      containers: [{ id: 'f00d', health: 'unhealthy' }],
    });
    const probe = { containerId: 'f00d', startedAt: '2026-11-22T12:00:00.5Z', result: 137 };
    expect(parseWatchLine('probe f00d 2026-11-22T12:00:00.5Z 137')).toEqual({ kind: 'probe', probe });
    expect(parseWatchLine('probe f00d 2026-11-22T12:00:00.5Z timeout')).toEqual({
      kind: 'probe',
      probe: { ...probe, result: 'timeout' },
    });
  });

  test.each([
    '',
    'same ',
    'containers',
    'probe f00d x',
    'probe f00d x -1',
    'probe ../x x 0',
    'probe f00d x 0 0',
    'Warning: same',
  ])('%j is no line of its own', (line) => {
    expect(parseWatchLine(line)).toBeUndefined();
  });

  test('a line that was cut is not "no containers"', () => {
    expect(() => parseWatchLine('containers [{"Id":')).toThrow(SyntaxError);
  });
});

test('what only the whole question asks for: policy, time to stop, networks, health check without its command', () => {
  const [settings] = parseContainers(
    JSON.stringify([
      {
        State: { Pid: 42 },
        RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 5 },
        Networks: [null, { Name: 'shop_default', IPAddress: '172.18.0.2' }],
        Config: { StopTimeout: 30, Healthcheck: { Interval: 30e9, Timeout: 2.5e9, StartPeriod: 0, Retries: 3 } },
      },
    ]),
  );
  expect(settings).toMatchObject({
    pid: 42,
    restartPolicy: 'on-failure:5',
    stopTimeoutSeconds: 30,
    networks: [{ name: 'shop_default', address: '172.18.0.2' }],
    healthcheck: { intervalSeconds: 30, timeoutSeconds: 2.5, startPeriodSeconds: 0, retries: 3 },
  });
});
