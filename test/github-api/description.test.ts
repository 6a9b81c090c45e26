import { type AskedRequest, description, findOperation, judgeAnswer, judgeRequest } from './description';

const headers = {
  authorization: 'token abc',
  accept: 'application/vnd.github+json',
  'x-github-api-version': '2022-11-28',
  'user-agent': 'slipway',
  'content-type': 'application/json; charset=utf-8',
};

const create = (body: unknown, other: Partial<AskedRequest> = {}): AskedRequest => ({
  method: 'POST',
  url: '/repos/acme/shop/deployments',
  headers,
  body: JSON.stringify(body),
  ...other,
});

const setStatus = (body: unknown): AskedRequest => create(body, { url: '/repos/acme/shop/deployments/7/statuses' });

const upload = (query: string, body: string): AskedRequest => ({
  ...create(undefined, { url: `/repos/acme/shop/releases/7/assets${query}` }),
  headers: { ...headers, 'content-type': 'application/octet-stream' },
  body,
});

const list = (query: string): AskedRequest =>
  create(undefined, { method: 'GET', url: `/repos/acme/shop/deployments${query}`, body: '' });

test('the extract has what is used, written out', () => {
  expect(description.operations.map(({ id, method, path }) => `${id} ${method} ${path}`)).toEqual([
    'repos/create-deployment POST /repos/{owner}/{repo}/deployments',
    'repos/create-deployment-status POST /repos/{owner}/{repo}/deployments/{deployment_id}/statuses',
    'repos/list-deployments GET /repos/{owner}/{repo}/deployments',
    'repos/list-deployment-statuses GET /repos/{owner}/{repo}/deployments/{deployment_id}/statuses',
    'issues/list-for-repo GET /repos/{owner}/{repo}/issues',
    'issues/create POST /repos/{owner}/{repo}/issues',
    'issues/update PATCH /repos/{owner}/{repo}/issues/{issue_number}',
    'issues/list-comments GET /repos/{owner}/{repo}/issues/{issue_number}/comments',
    'issues/create-comment POST /repos/{owner}/{repo}/issues/{issue_number}/comments',
    'issues/update-comment PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}',
    'repos/list-releases GET /repos/{owner}/{repo}/releases',
    'repos/create-release POST /repos/{owner}/{repo}/releases',
    'repos/get-release GET /repos/{owner}/{repo}/releases/{release_id}',
    'repos/update-release PATCH /repos/{owner}/{repo}/releases/{release_id}',
    'repos/delete-release DELETE /repos/{owner}/{repo}/releases/{release_id}',
    'repos/upload-release-asset POST /repos/{owner}/{repo}/releases/{release_id}/assets',
    'git/get-ref GET /repos/{owner}/{repo}/git/ref/{ref}',
    'git/get-tag GET /repos/{owner}/{repo}/git/tags/{tag_sha}',
    'git/create-ref POST /repos/{owner}/{repo}/git/refs',
    'git/update-ref PATCH /repos/{owner}/{repo}/git/refs/{ref}',
  ]);
  expect(JSON.stringify(description)).not.toContain('$ref');
});

test.each([
  ['a Deployment', create({ ref: 'abc', auto_merge: false, required_contexts: [], payload: { any: { thing: 1 } } })],
  ['a payload as text', create({ ref: 'abc', payload: '{}', description: null })],
  ['a status', setStatus({ state: 'success', auto_inactive: true, description: 'x'.repeat(140) })],
  ['a list', list('?sha=abc&environment=production&task=deploy&per_page=100')],
  ['a file', upload('?name=a.json', 'as it is')],
])('%s is accepted', (_what, request) => {
  expect(judgeRequest(request)).toEqual([]);
});

test.each([
  ['without a ref', create({}), "must have required property 'ref'"],
  ['an unknown member', create({ ref: 'abc', required_context: [] }), 'must NOT have additional properties'],
  ['another type', create({ ref: 'abc', auto_merge: 'false' }), '/auto_merge must be boolean'],
  ['a list of others', create({ ref: 'abc', required_contexts: [1] }), '/required_contexts/0 must be string'],
  ['a payload that is neither', create({ ref: 'abc', payload: 1 }), '/payload must match exactly one schema in oneOf'],
  ['no JSON', create({}, { body: '{' }), 'the body is not JSON'],
  ['an unknown state', setStatus({ state: 'done' }), '/state must be equal to one of the allowed values'],
  ['a long description', setStatus({ state: 'success', description: 'x'.repeat(141) }), '141 characters'],
  ['an unknown query', list('?commit=abc'), 'query parameter commit is not known'],
  ['a query of another type', list('?per_page=many'), 'per_page must be integer'],
  ['an id that is none', { ...setStatus({ state: 'error' }), url: '/repos/a/b/deployments/x/statuses' }, 'be integer'],
  ['no file', upload('?name=a.json', ''), 'there is no file'],
  ['a file without a name', upload('', 'as it is'), 'name is missing'],
  ['a body where none is', { ...list(''), body: '{}' }, 'there is a body'],
  ['another path', create({ ref: 'abc' }, { url: '/repos/acme/deployments' }), 'is no operation'],
  ['another method', create({ ref: 'abc' }, { method: 'PUT' }), 'is no operation'],
  ...Object.keys(headers).map(
    (name) =>
      [`no ${name}`, create({ ref: 'abc' }, { headers: { ...headers, [name]: '' } }), `header ${name}`] as const,
  ),
] as const)('%s is found', (_what, request, problem) => {
  expect(judgeRequest(request)).toContainEqual(expect.stringContaining(problem));
});

describe('answers', () => {
  const find = (request: AskedRequest) => {
    const matched = findOperation(request.method, request.url);
    if (matched === undefined) throw new Error('no such operation');
    return matched.operation;
  };

  // What answers with nothing has no example.
  const answering = description.operations.filter(({ responses }) => responses['204'] === undefined);

  test.each(answering.map((operation) => [operation.id, operation] as const))(
    "GitHub's example for %s is one",
    (_id, operation) => {
      const [status, { example } = {}] = Object.entries(operation.responses)[0] ?? [];
      expect(example).toBeDefined();
      expect(judgeAnswer(operation, Number(status), example)).toEqual([]);
    },
  );

  test.each([
    [create({}), 201, { id: 1 }, 'must have required property'],
    [create({}), 200, {}, 'does not answer 200'],
    [list(''), 200, {}, 'must be array'],
    [create({}), 403, { message: 1 }, '/message must be string'],
  ] as const)('%# what GitHub would not say is found', (request, status, body, problem) => {
    expect(judgeAnswer(find(request), status, body)).toContainEqual(expect.stringContaining(problem));
  });
});
