/** The issue of what fails and the comment of a plan, against an API that holds every request against GitHub's description. */
import { runAction, type ActionRun } from '../e2e/harness/index.ts';
import { GithubApi } from '../github-api/server';
import { enforcePermissions } from './api-permissions.ts';
import type { Permissions } from './workflow.ts';

const TOKEN = 'ghs_token-of-the-notices-0000000000000000';

let api: GithubApi;
let url: string;
let allowed: Permissions = { issues: 'write' };

beforeEach(async () => {
  api = new GithubApi('acme/shop', TOKEN);
  url = await api.listen();
  enforcePermissions(api, () => allowed);
  allowed = { issues: 'write', 'pull-requests': 'write' };
});
afterEach(async () => {
  await api.close();
  expect(api.problems).toEqual([]);
});

const start = (name: string, inputs: Record<string, string>, event = {}, runId = '1'): Promise<ActionRun> =>
  runAction({
    action: `.github/actions/${name}`,
    with: { 'github-token': TOKEN, ...inputs },
    secrets: [TOKEN],
    event,
    github: { repository: 'acme/shop', api_url: url, run_id: runId },
  });

describe('alert-issue', () => {
  const alert = (well: boolean, runId = '1', subject = 'Backup of production'): Promise<ActionRun> =>
    start('alert-issue', { subject, well: String(well), advice: 'Ask @everyone & <b>look</b>.' }, {}, runId);

  test('is opened once, brought up to date, closed when it is well, and a new one the next time', async () => {
    expect((await alert(true)).outputs).toEqual({});
    expect(api.issues).toEqual([]);

    expect((await alert(false, '11')).outputs).toEqual({ issue: '1' });
    expect((await alert(false, '12')).outputs).toEqual({ issue: '1' });
    expect(api.issues).toMatchObject([
      { title: 'Backup of production is not well', state: 'open', labels: ['slipway-alert'] },
    ]);
    expect(api.issues[0]?.body).toMatch(/failed 2 times.*runs\/12/);
    expect(api.issues[0]?.body).not.toContain('runs/11');
    expect(api.issues[0]?.body).not.toMatch(/@e|<b>/);
    expect(api.comments).toEqual([]);

    expect((await alert(true, '13')).outputs).toEqual({ issue: '1' });
    expect(api.issues[0]?.state).toBe('closed');
    expect(api.comments).toMatchObject([{ issue: 1, body: expect.stringContaining('runs/13') as string }]);
    await alert(true, '14');
    expect(api.comments).toHaveLength(1);

    expect((await alert(false, '15')).outputs).toEqual({ issue: '2' });
    expect(api.issues[1]?.body).toContain('failed once');
  });

  test('is of its own subject, whatever that is called, and found behind a hundred others', async () => {
    for (let n = 0; n < 100; n++) {
      api.issues.push({ number: n + 1, title: 'another', body: 'x', labels: ['slipway-alert'], state: 'open' });
    }
    const odd = 'a --> `b` ü';
    expect((await alert(false, '1', odd)).outputs).toEqual({ issue: '101' });
    expect((await alert(false, '2', odd)).outputs).toEqual({ issue: '101' });
    expect((await alert(false, '2', 'a')).outputs).toEqual({ issue: '102' });
    expect((await alert(true, '3', odd)).outputs).toEqual({ issue: '101' });
    expect(api.issues.map((issue) => issue.state).slice(100)).toEqual(['closed', 'open']);
  });

  test('says what the job must be allowed, and shows no token', async () => {
    allowed = { issues: 'read' };
    const run = await alert(false);
    expect(run.outcome).toBe('failure');
    expect(run.annotations.map((one) => one.message).join()).toMatch(/403[^]*permissions: { issues: write }/);
    expect(`${run.stdout}${run.stderr}${run.summary}`).not.toContain(TOKEN);
  });

  test('asks again where GitHub could not answer, but never opens a second one', async () => {
    let asked = 0;
    api.after = (request, response) => {
      asked += 1;
      if (request.method !== 'GET' || asked > 1) return false;
      response.writeHead(502);
      response.end('bad gateway');
      return true;
    };
    expect((await alert(false)).outcome).toBe('success');
    api.after = (request, response) => {
      if (request.method !== 'POST') return false;
      response.destroy();
      return true;
    };
    expect((await alert(false, '2', 'Other')).outcome).toBe('failure');
    expect(api.issues.map((issue) => issue.title)).toEqual(['Backup of production is not well', 'Other is not well']);
  });
});

describe('plan-comment', () => {
  const event = { pull_request: { number: 7, head: { sha: 'abcdef0123456789' } } };
  const plan = (reason: string): string =>
    JSON.stringify({
      services: [
        { service: 'api', action: 'replace', strategy: { order: 'start-first' }, reasons: [reason] },
        { service: 'db', action: 'replace', strategy: { order: 'stop-first' }, reasons: [] },
        { service: 'web', action: 'keep', reasons: [] },
      ],
    });
  const comment = (text: string): Promise<ActionRun> =>
    start('plan-comment', { subject: 'production', plan: text }, event);

  test('there is one, brought up to date; what somebody else wrote is left alone', async () => {
    api.comments.push({ id: 1, issue: 7, body: '<!-- slipway-plan production --> mine', by: 'User' });
    await comment(plan('image | <img> @team https://x.example'));
    await comment(plan('another image'));
    await comment('');
    expect(api.comments.map(({ by, issue }) => [by, issue])).toEqual([
      ['User', 7],
      ['Bot', 7],
    ]);
    expect(api.comments[0]?.body).toContain('mine');
    expect(api.comments[1]?.body).toContain('There is no plan');
  });

  test('nothing in it is Markdown, HTML, a mention or a link', async () => {
    await comment(plan('a | <img src=x> @team https://x.example [l](u)\n::error::x'));
    const body = api.comments[0]?.body ?? '';
    expect(body).toContain('| api | replace, without an outage | a \\| &lt;img src=x&gt; @');
    expect(body).toContain('| db | replace: away from the stop of the old to the start of the new |  |');
    expect(body).toContain('| web | keep |  |');
    expect(body).not.toMatch(/<img|@team|https:\/\/x\.example|\[l\]/);
    expect(body).toContain('abcdef0');
  });

  test('needs a pull request', async () => {
    const run = await start('plan-comment', { subject: 'production' });
    expect(run.outcome).toBe('failure');
    expect(run.log).toContain('a pull request started');
  });
});
