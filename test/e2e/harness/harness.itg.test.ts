import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { readArgv } from './orphans.ts';
import {
  type ActionRequest,
  type ActionRun,
  HarnessError,
  Job,
  parseManifest,
  runAction,
  sampleArgv,
} from './index.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));

type Script = readonly (readonly [where: string, text: string])[];

async function say(script: Script, options: Partial<ActionRequest> = {}): Promise<ActionRun> {
  return await runAction({
    action: fixture('talkative'),
    ...options,
    with: { script: JSON.stringify(script), ...options.with },
  });
}

/** The log without what the runner itself prints before the action starts. */
function body(run: ActionRun): string[] {
  const start = run.entries.findIndex((entry) => entry.kind === 'endgroup');
  return run.entries.slice(start + 1).map((entry) => entry.text);
}

describe('inputs and environment', () => {
  test('inputs come as INPUT_ variables, with the defaults of action.yml and their expressions', async () => {
    const run = await say(
      [
        ['print', 'INPUT_COMMIT'],
        ['print', 'INPUT_TWO_WORDS'],
        ['print', 'INPUT_SOME-FLAG'],
      ],
      { github: { sha: 'abc123' } },
    );
    expect(body(run)).toEqual(['"abc123"', '"spaced"', '"true"']);
    expect(run.outcome).toBe('success');
  });

  test('an input of any case overrides its default, and an empty one too', async () => {
    const run = await say(
      [
        ['print', 'INPUT_COMMIT'],
        ['print', 'INPUT_SOME-FLAG'],
      ],
      { with: { Commit: 'given', 'some-flag': '' } },
    );
    expect(body(run)).toEqual(['"given"', '""']);
  });

  test('an unknown input is refused', async () => {
    await expect(say([], { with: { comit: 'x' } })).rejects.toThrow("Unexpected input(s) 'comit'");
  });

  test('a default that the harness cannot evaluate is refused', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'slipway-fixture-'));
    for (const expression of ['github.no_such_thing', 'secrets.KEY', "hashFiles('x')", 'github.sha +']) {
      await writeFile(
        join(folder, 'action.yml'),
        `name: x\ndescription: x\ninputs: { a: { default: '\${{ ${expression.replaceAll("'", "''")} }}' } }\nruns: { using: node24, main: action.yml }\n`,
      );
      await expect(runAction({ action: folder })).rejects.toThrow(`cannot evaluate \${{ ${expression}`);
    }
    await rm(folder, { recursive: true });
  });

  test('nothing of the surrounding environment gets in, and the token is in no variable', async () => {
    process.env['SLIPWAY_SURROUNDINGS'] = 'leaked';
    const run = await say([['environment', '']], { env: { FROM_JOB: 'yes' }, github: { token: 'ghs_tokentoken' } });
    delete process.env['SLIPWAY_SURROUNDINGS'];
    const env = JSON.parse(run.stdout) as Record<string, string>;
    expect(env).toMatchObject({
      CI: 'true',
      FROM_JOB: 'yes',
      GITHUB_ACTIONS: 'true',
      GITHUB_REPOSITORY: 'octocat/hello-world',
      GITHUB_REF: 'refs/heads/main',
      GITHUB_SERVER_URL: 'https://github.com',
      RUNNER_OS: 'Linux',
    });
    expect(env['PATH']).not.toContain('node_modules');
    expect(env['RUNNER_TRACKING_ID']).toMatch(/^github_/);
    expect(Object.keys(env)).not.toContain('SLIPWAY_SURROUNDINGS');
    expect(Object.keys(env)).not.toContain('NODE_OPTIONS');
    expect(run.stdout).not.toContain('ghs_tokentoken');
  });

  test.each([
    ['using: node20\n  main: index.mjs', 'must be node24'],
    ['using: composite\n  steps: []', 'steps, which the harness does not support'],
    ['using: node24\n  main: index.mjs\n  pre: index.mjs', 'pre, which the harness does not support'],
    ['using: node24', 'runs.main is missing'],
  ])('runs of %j are refused', (runs, message) => {
    expect(() => parseManifest(`name: x\ndescription: x\nruns:\n  ${runs}\n`, 'x')).toThrow(message);
  });
});

describe('workflow commands', () => {
  test('annotations with unescaped properties, from both streams, in new and old form', async () => {
    const run = await say([
      ['stdout', '::error title=Not%2C healthy%3A web,file=compose.yaml,line=3,col=7::100%25 of%0Atwo lines\n'],
      ['stderr', '  ::warning::from stderr\n'],
      ['stdout', 'text before ##[notice title=old]legacy%5D\n'],
      ['stdout', '::ERROR::any case\n'],
    ]);
    expect(run.annotations).toEqual(
      expect.arrayContaining([
        {
          type: 'error',
          title: 'Not, healthy: web',
          message: '100% of\ntwo lines',
          file: 'compose.yaml',
          line: 3,
          column: 7,
          shown: true,
        },
        { type: 'warning', title: '', message: 'from stderr', file: '', shown: true },
        { type: 'notice', title: 'old', message: 'legacy]', file: '', shown: true },
        { type: 'error', title: '', message: 'any case', file: '', shown: true },
      ]),
    );
    expect(run.log).toContain('Error: 100% of\ntwo lines');
    // An annotation is no failure: only the exit code is.
    expect(run.outcome).toBe('success');
  });

  test('of each type GitHub keeps ten', async () => {
    const run = await say([['stdout', '::error::x\n'.repeat(12)]]);
    expect(run.annotations.filter((annotation) => annotation.shown)).toHaveLength(10);
    expect(run.annotations).toHaveLength(12);
  });

  test('groups, and debug lines only where they are asked for', async () => {
    const script: Script = [['stdout', '::group::Plan\ninside\n::endgroup::\n::debug::deep\nafter\n']];
    const run = await say(script);
    expect(run.log.split('\n').slice(-3)).toEqual(['▼ Plan', 'inside', 'after']);
    expect((await say(script, { debug: true })).log).toContain('##[debug]deep');
  });

  test('a lone CR and a CR LF end a line, and a UTF-8 character split over two writes is whole', async () => {
    const run = await say([
      ['stdout', 'progress\r::warning::hidden behind a CR\r\nlast ä'],
      ['stdout', 'ö'],
    ]);
    expect(body(run)).toEqual(['progress', 'hidden behind a CR', 'last äö']);
  });

  test('stop-commands holds for both streams until its token', async () => {
    const run = await say([
      ['stdout', '::stop-commands::t0ken\n::error::not obeyed\n::add-mask::visible\n::made-up::\n::other::\n'],
      ['stdout', 'visible\n::t0ken::\n::error::obeyed\n'],
    ]);
    expect(run.annotations.map((annotation) => annotation.message)).toEqual(['obeyed']);
    expect(body(run)).toContain('::error::not obeyed');
    expect(body(run)).toContain('visible');
    expect(run.commandsStopped).toBe(false);
    expect((await say([['stdout', '::stop-commands::t0ken\n']])).commandsStopped).toBe(true);
  });

  test('a token that is a command fails the step', async () => {
    const run = await say([['stdout', '::stop-commands::add-mask\n']]);
    expect(run).toMatchObject({ outcome: 'failure', exitCode: 0, commandsStopped: false });
  });

  test.each([
    ['::set-output name=first::x', 'the deprecated command set-output'],
    ['::save-state name=first::x', 'the deprecated command save-state'],
    ['::set-env name=A::x', 'the disabled command set-env'],
    ['::add-path::/x', 'the disabled command add-path'],
    ['::add-matcher::x.json', 'the command add-matcher, which the harness does not imitate'],
    ['::set-ouput name=first::x', 'a command that the runner does not know'],
    ['##[section]Starting', 'a command that the runner does not know'],
  ])('%s is not supported: the harness throws', async (line, what) => {
    await expect(say([['stdout', `${line}\n`]])).rejects.toThrow(what);
    const run = await say([['stdout', `${line}\n`]], { allowUnsupported: true });
    expect(run.unsupported).toEqual([{ what, text: line }]);
  });

  test('text that only has colons in it is text', async () => {
    const run = await say([['stdout', '::1 is localhost, std::vector::size, ::ffff:10.0.0.1::\n']]);
    expect(run.unsupported).toEqual([]);
  });
});

describe('masking', () => {
  test('from the command on, never before; each line; the encodings of the runner', async () => {
    const run = await say([
      ['stdout', 'early hunter2hunter2\n::add-mask::hunter2hunter2\nlate hunter2hunter2\n'],
      ['stdout', `::add-mask::line-one%0Aline-two\n[line-two] ${Buffer.from('hunter2hunter2').toString('base64')}\n`],
      ['stdout', '::add-mask::quo"te\'d & x\n{"quo\\"te\'d & x"} quo%22te%27d%20%26%20x quo&quot;te&apos;d &amp; x\n'],
    ]);
    expect(body(run)).toEqual(['early hunter2hunter2', 'late ***', '[***] ***', '{"***"} *** ***']);
    expect(run.stdout).toContain('late hunter2hunter2');
    expect(run.masks).toEqual(expect.arrayContaining(['hunter2hunter2', 'line-one\nline-two']));
  });

  test('overlapping and adjoining secrets go wholly', async () => {
    const run = await say([['stdout', 'xabcdefy abcabc\n']], { secrets: ['abcd', 'cdef', 'abc'] });
    expect(body(run)).toEqual(['x***y ***']);
  });

  test('secrets of the job are masked in the inputs that the runner prints, in annotations and in the summary', async () => {
    const run = await say(
      [
        ['stdout', '::error title=a s3cr3tvalue::b s3cr3tvalue\n'],
        ['GITHUB_STEP_SUMMARY', '# s3cr3tvalue\n'],
      ],
      {
        secrets: ['s3cr3tvalue'],
        with: { commit: 's3cr3tvalue' },
      },
    );
    expect(run.log).toContain('  commit: ***');
    expect(run.log).not.toContain('s3cr3tvalue');
    expect(run.annotations[0]).toMatchObject({ title: 'a ***', message: 'b ***' });
    expect(run.summary).toBe('# ***\n');
  });

  test('an output that holds a masked value is named', async () => {
    const run = await say([['GITHUB_OUTPUT', 'first=my s3cr3tvalue\nsecond=harmless\n']], { secrets: ['s3cr3tvalue'] });
    expect(run.outputs).toEqual({ first: 'my s3cr3tvalue', second: 'harmless' });
    expect(run.droppedOutputs).toEqual(['first']);
  });
});

describe('command files', () => {
  test('name=value and heredocs', async () => {
    const run = await say([['GITHUB_OUTPUT', 'first=a=b<<c\n\nsecond<<END\nline one\nfirst=not this\n\nEND\n']]);
    expect(run.outputs).toEqual({ first: 'a=b<<c', second: 'line one\nfirst=not this\n' });
  });

  test.each([
    ['first<<END\nno end\n', "Matching delimiter not found 'END'"],
    ['first<<END\nno end', 'EOF marker missing new line'],
    ['<<END\nx\nEND\n', 'Name must not be empty and delimiter must not be empty'],
    ['just a line\n', "Invalid format 'just a line'"],
  ])('%j fails the step though the process ended well', async (text, message) => {
    const run = await say([['GITHUB_OUTPUT', text]]);
    expect(run).toMatchObject({ outcome: 'failure', exitCode: 0, outputs: {} });
    expect(run.log).toContain(message);
  });

  test('an output that action.yml does not declare is not supported', async () => {
    await expect(say([['GITHUB_OUTPUT', 'frist=x\n']])).rejects.toThrow('does not declare: frist');
  });

  test('a summary over 1 MiB is thrown away, with an error', async () => {
    // In parts: one variable of the environment holds 128 KiB at most.
    const run = await say([
      ...Array.from({ length: 1024 }, () => ['repeat', '1024'] as const),
      ['GITHUB_STEP_SUMMARY', 'x'],
    ]);
    expect(run.summary).toBe('');
    expect(run.log).toContain('Error: $GITHUB_STEP_SUMMARY upload aborted');
  });
});

describe('outcome', () => {
  test('an exit code other than 0 is a failure, and both raw streams are kept', async () => {
    const run = await say([
      ['stdout', 'out\n'],
      ['stderr', 'err\n'],
      ['exit', '3'],
    ]);
    expect(run).toMatchObject({
      outcome: 'failure',
      exitCode: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
      post: undefined,
    });
    expect(run.durationMs).toBeGreaterThanOrEqual(run.firstOutputMs ?? Infinity);
  });

  test('a process that does not end is killed at the bound, and the log is in the error', async () => {
    const error: unknown = await runAction({ action: fixture('stubborn'), limitSeconds: 1 }).catch(
      (caught: unknown) => caught,
    );
    expect(error).toBeInstanceOf(HarnessError);
    expect((error as HarnessError).message).toContain('did not end within 1 s');
    expect((error as HarnessError).log).toContain('ready');
  });
});

describe('post', () => {
  test('gets the state, the environment and the path that main left', async () => {
    const run = await runAction({ action: fixture('stateful'), with: { exit: '1' } });
    expect(run.outcome).toBe('failure');
    expect(run.post?.stdout).toBe('["line one\\nline two","","by main","/added/bin"]\n');
    expect(run.post?.log).toContain('Post job cleanup.');
  });

  test('post-if: failure() holds it back after a success', async () => {
    const run = await runAction({ action: fixture('stateful') });
    expect(run.post).toBeUndefined();
  });

  test('in a job of two steps the last one comes first', async () => {
    const job = await Job.open();
    await job.step({ action: fixture('stubborn'), with: { seconds: '0' } });
    await job.step({ action: fixture('stateful'), with: { exit: '1' } });
    const { posts } = await job.close();
    expect(posts.map((post) => post.stdout.slice(0, 10))).toEqual(['["line one', 'post sees ']);
  });
});

describe('cancel', () => {
  const stubborn = { action: fixture('stubborn'), cancelAfter: /^ready$/ };

  test('an action that heeds SIGINT gets nothing else, and is cancelled whatever its exit code', async () => {
    const run = await runAction(stubborn);
    expect(run).toMatchObject({ outcome: 'cancelled', exitCode: 130, signal: 'SIGINT' });
    expect(run.signals.map((sent) => sent.signal)).toEqual(['SIGINT']);
    expect(run.log).toContain('Error: The operation was canceled.');
    expect(run.post?.stdout).toBe('post sees started=yes\n');
  });

  test('SIGTERM at 7.5 s, SIGKILL at 10 s, then post', async () => {
    const run = await runAction({ ...stubborn, with: { ignore: 'SIGINT SIGTERM' } });
    expect(run.signals.map((sent) => sent.signal)).toEqual(['SIGINT', 'SIGTERM', 'SIGKILL']);
    const [int, term, kill] = run.signals.map((sent) => sent.atMs);
    expect((term ?? 0) - (int ?? 0)).toBeGreaterThanOrEqual(7_490);
    expect((term ?? 0) - (int ?? 0)).toBeLessThan(7_900);
    expect((kill ?? 0) - (term ?? 0)).toBeGreaterThanOrEqual(2_490);
    expect((kill ?? 0) - (term ?? 0)).toBeLessThan(2_900);
    expect(run).toMatchObject({ outcome: 'cancelled', exitCode: 137, signal: 'SIGKILL' });
    expect(run.post?.stdout).toBe('post sees started=yes\n');
  }, 30_000);

  test('the times can be scaled', async () => {
    const run = await runAction({ ...stubborn, with: { ignore: 'SIGINT' }, timeScale: 0.02 });
    expect(run).toMatchObject({ outcome: 'cancelled', signal: 'SIGTERM' });
    expect(run.stdout).toBe('ready\nignored SIGINT\n');
  });

  test('by time and by a function that sees the process', async () => {
    const timed = await runAction({ ...stubborn, cancelAfter: 300 });
    expect(timed.outcome).toBe('cancelled');
    expect(timed.peakRssBytes).toBeGreaterThan(20_000_000);
    let argv: string[] = [];
    const run = await runAction({
      ...stubborn,
      cancelAfter: async (running) => {
        await running.line(/ready/);
        argv = readArgv(running.pid);
      },
    });
    expect(argv.at(-1)).toBe(join(fixture('stubborn'), 'index.mjs'));
    expect(run.outcome).toBe('cancelled');
  });

  test('a cancel that never comes is a fault of the test', async () => {
    await expect(say([], { cancelAfter: /never said/ })).rejects.toThrow('the action ended before cancelAfter came');
  });

  test('killAfter ends the process only; post runs', async () => {
    const run = await runAction({ action: fixture('stubborn'), killAfter: /^ready$/ });
    expect(run).toMatchObject({ outcome: 'failure', exitCode: 137, state: { started: 'yes' } });
    expect(run.post?.outcome).toBe('success');
  });

  test('loseAfter takes everything with it', async () => {
    const run = await runAction({ action: fixture('stubborn'), loseAfter: /^ready$/ });
    expect(run).toMatchObject({ outcome: 'lost', state: {}, post: undefined });
  });
});

describe('what is left', () => {
  test('a process that outlives the job is killed and reported, and so are files', async () => {
    const run = await runAction({ action: fixture('orphaning') });
    expect(run.orphans.map((orphan) => orphan.argv.at(-1))).toEqual(['left-behind']);
    expect(run.log).toContain(`left ${run.orphans[0]?.pid ?? ''}`);
    expect(readArgv(run.orphans[0]?.pid ?? 0)).toEqual([]);
    expect(run.leftFiles).toEqual({ 'temp/key.pem': 'left on disk' });
  });

  test('the sampler sees the arguments of every process', async () => {
    const sentinel = `sentinel-${String(process.pid)}`;
    const { processes, result } = await sampleArgv(() =>
      runAction({ action: fixture('orphaning'), with: { arguments: sentinel } }),
    );
    expect(result.outcome).toBe('success');
    expect(processes.filter((seen) => seen.argv.includes(sentinel)).map((seen) => seen.pid)).toEqual([
      result.orphans[0]?.pid,
    ]);
    const clean = await sampleArgv(() => runAction({ action: fixture('orphaning') }));
    expect(JSON.stringify(clean.processes)).not.toContain(sentinel);
  });
});

test('a plain Node 24 script can use the harness', async () => {
  const script = `
    const { runAction } = await import(${JSON.stringify(new URL('./index.ts', import.meta.url).href)});
    const run = await runAction({ action: ${JSON.stringify(fixture('orphaning'))} });
    console.log(run.outcome);`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env['PATH'] },
  });
  expect(stdout).toBe('success\n');
  expect(stderr).toBe('');
});
