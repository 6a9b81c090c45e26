/** One issue for one thing that can fail. It is found by its label and by a mark in its text. */
import { ask, escapeMarkdown, readInput, runUrl, setOutput, start } from '../github-api.mjs';

const LABEL = 'slipway-alert';
const PERMISSION = 'issues';
const PAGE = 100;

/** Not in a comment of HTML that ends early: a name is anything. */
const markOf = (subject) => `<!-- slipway-alert ${encodeURIComponent(subject)} -->`;

/** The one that is open; the oldest, should there be two. */
async function findIssue(mark) {
  for (let page = 1; ; page++) {
    const query = `state=open&labels=${LABEL}&sort=created&direction=asc&per_page=${PAGE}&page=${page}`;
    const issues = await ask('GET', `issues?${query}`, undefined, PERMISSION);
    const found = issues.find((issue) => issue.pull_request === undefined && (issue.body ?? '').includes(mark));
    if (found !== undefined || issues.length < PAGE) return found;
  }
}

function renderBody(mark, advice, times, since) {
  const count = times === 1 ? 'It has failed once.' : `It has failed ${times} times.`;
  return [
    mark,
    `**Not well since ${since}.** ${count} The last time: ${runUrl()}`,
    ...(advice === '' ? [] : [escapeMarkdown(advice)]),
    'This issue is kept by a workflow: it is closed by itself when all is well again.',
    `<!-- times=${times} since=${since} -->`,
  ].join('\n\n');
}

await start(async () => {
  const subject = readInput('subject');
  const mark = markOf(subject);
  const issue = await findIssue(mark);
  if (readInput('well') === 'true') {
    if (issue === undefined) return;
    await ask('POST', `issues/${issue.number}/comments`, { body: `Well again: ${runUrl()}` }, PERMISSION);
    await ask('PATCH', `issues/${issue.number}`, { state: 'closed', state_reason: 'completed' }, PERMISSION);
    setOutput('issue', issue.number);
    return;
  }
  const advice = readInput('advice');
  const [, times = '0', since = `${new Date().toISOString().slice(0, 16)}Z`] =
    /<!-- times=(\d+) since=(\S+) -->/.exec(issue?.body ?? '') ?? [];
  const body = renderBody(mark, advice, Number(times) + 1, since);
  const written =
    issue === undefined
      ? await ask('POST', 'issues', { title: `${subject} is not well`, body, labels: [LABEL] }, PERMISSION)
      : await ask('PATCH', `issues/${issue.number}`, { body }, PERMISSION);
  setOutput('issue', written.number);
});
