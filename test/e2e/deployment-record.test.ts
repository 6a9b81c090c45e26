/**
 * What is told of a deploy elsewhere: the GitHub Deployment record, and the annotation in Grafana. Both against APIs that hold every request
 * against the descriptions that there are of them.
 */
import { jest } from '@jest/globals';
import { GrafanaApi } from '../../shared/test/grafana-api';
import { GithubApi } from '../github-api/server';
import {
  appImage,
  type Checkout,
  deploy,
  freshServer,
  onServer,
  projectFiles,
  publishApp,
  RELEASES,
  removeCheckouts,
  rollBack,
  sandboxInfo,
} from './sandbox';

const TOKEN = 'ghs_deployment-record-token-000000000000';
const GRAFANA_TOKEN = 'glsa_annotation-token-000000000000000';
const COMPOSE = 'name: shop\nservices:\n  app: { image: "${IMAGE}", ports: ["8080:3000"] }\n';

jest.setTimeout(120_000);

let api: GithubApi;
let url: string;
let checkout: Checkout;
let grafana: GrafanaApi;
let grafanaUrl: string;

beforeAll(async () => {
  await freshServer();
  await publishApp('v1');
  await publishApp('v2');
  await publishApp('bad', RELEASES['crash']);
  checkout = await projectFiles({ 'compose.yaml': COMPOSE });
});
beforeEach(async () => {
  api = new GithubApi('acme/shop', TOKEN);
  url = await api.listen();
  grafana = new GrafanaApi(GRAFANA_TOKEN);
  // As infra/monitoring has it: on the server's own loopback.
  const { host } = sandboxInfo().network;
  const port = await grafana.listen(host);
  grafanaUrl = 'http://127.0.0.1:3000';
  await onServer(
    `systemctl stop grafana.socket grafana.service 2>/dev/null; systemd-run --quiet --unit=grafana --socket-property=ListenStream=127.0.0.1:3000 /usr/lib/systemd/systemd-socket-proxyd ${host}:${port}`,
  );
});
afterEach(() => grafana.close());
afterAll(removeCheckouts);

const deployAs = (release: string, inputs: Record<string, string> = {}): ReturnType<typeof deploy> =>
  deploy(
    checkout,
    {
      variables: `IMAGE=${appImage(release)}`,
      'github-token': TOKEN,
      environment: 'production',
      'environment-url': 'https://shop.example.com',
      'grafana-url': grafanaUrl,
      'grafana-token': GRAFANA_TOKEN,
      ...inputs,
    },
    { secrets: [TOKEN, GRAFANA_TOKEN], github: { repository: 'acme/shop', api_url: url } },
  );

const statesOf = (): string[][] =>
  api.deployments.map(({ statuses }) => statuses.map((status) => String(status['state'])));

test('a deploy has a record that begins with it and ends with its result; one without a change has none', async () => {
  const first = await deployAs('v1');
  expect(first.outputs['result']).toBe('deployed');
  expect(statesOf()).toEqual([['in_progress', 'success']]);
  expect(api.deployments[0]?.asked).toMatchObject({
    environment: 'production',
    auto_merge: false,
    required_contexts: [],
  });
  expect(api.deployments[0]?.statuses[1]).toMatchObject({ environment_url: 'https://shop.example.com/' });

  expect((await deployAs('v1')).outputs['result']).toBe('unchanged');
  expect(api.deployments).toHaveLength(1);

  const bad = await deployAs('bad');
  expect(bad.outputs['result']).toBe('reverted');
  expect(statesOf()).toEqual([
    ['in_progress', 'success'],
    ['in_progress', 'failure'],
  ]);
  expect([...api.problems, ...grafana.problems]).toEqual([]);
  // Both that changed something, and not the one between them.
  const [live, reverted, ...others] = grafana.annotations;
  expect([live?.tags, reverted?.tags, others]).toEqual([
    ['slipway', 'shop', 'production', 'deployed'],
    ['slipway', 'shop', 'production', 'reverted'],
    [],
  ]);
  expect(live?.text).toContain(`release ${first.outputs['release'] ?? ''}<br>`);
  expect((live?.timeEnd ?? 0) - (live?.time ?? 0)).toBeGreaterThan(500);
  for (const token of [TOKEN, GRAFANA_TOKEN]) {
    expect(`${first.log}${bad.log}${bad.summary}`).not.toContain(token);
  }
  await api.close();
});

test('an API that refuses, or is away, fails no deploy, and says what is missing', async () => {
  const warningsOf = (run: Awaited<ReturnType<typeof deploy>>): string[] =>
    run.annotations.filter(({ type }) => type === 'warning').map(({ message }) => message);
  api.before = (_request, response) => {
    response.writeHead(403, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ message: 'Resource not accessible by integration' }));
    return true;
  };
  const refused = await deployAs('v2');
  expect(refused.outputs['result']).toBe('deployed');
  expect(warningsOf(refused)).toContainEqual(expect.stringContaining('deployments: write'));
  expect(refused.summary).toContain('deployments: write');
  await api.close();

  // Nobody listens there on the runner; on the server, the application does.
  const away = await deployAs('v1', { 'grafana-url': 'http://127.0.0.1:8080' });
  expect(away.outputs['result']).toBe('deployed');
  expect(warningsOf(away)).toContainEqual(expect.stringContaining('Deployment'));
  expect(warningsOf(away)).toContainEqual(expect.stringContaining('127.0.0.1:8080 was not told of this deploy: what answered (200) is not Grafana')); // prettier-ignore
  expect(grafana.annotations).toHaveLength(1);

  // A rollback tells of itself too.
  const back = await rollBack(
    { 'grafana-url': grafanaUrl, 'grafana-token': GRAFANA_TOKEN },
    { secrets: [GRAFANA_TOKEN] },
  );
  expect(back.outputs['result']).toBe('rolled-back');
  expect(grafana.annotations[1]).toMatchObject({ tags: ['slipway', 'shop', 'rolled-back'] });
  expect(grafana.annotations[1]?.text).toContain(`release ${back.outputs['release'] ?? ''}<br>`);
  expect(grafana.problems).toEqual([]);
});
