/** One comment for one plan, found again by a mark in its text. */
import { ask, escapeMarkdown, readEvent, readInput, runUrl, setOutput, start } from '../github-api.mjs';

const PERMISSION = 'pull-requests';
const PAGE = 100;
const ROWS = 100;

async function findComment(number, mark) {
  for (let page = 1; ; page++) {
    const comments = await ask('GET', `issues/${number}/comments?per_page=${PAGE}&page=${page}`, undefined, PERMISSION);
    // Anybody may write the mark; only what a workflow wrote is ours to change.
    const found = comments.find((comment) => comment.user?.type === 'Bot' && (comment.body ?? '').includes(mark));
    if (found !== undefined || comments.length < PAGE) return found;
  }
}

/** What visitors would notice, which is what a reviewer asks. */
function describeAction({ action, strategy }) {
  if (action !== 'replace') return action;
  return strategy?.order === 'start-first'
    ? 'replace, without an outage'
    : 'replace: away from the stop of the old to the start of the new';
}

function renderServices(plan) {
  if (plan === '') return 'There is no plan: look at the run.';
  const { services } = JSON.parse(plan);
  if (services.length === 0) return 'It has no services.';
  const cell = (text) => escapeMarkdown(text);
  const rows = services
    .slice(0, ROWS)
    .map(
      (service) =>
        `| ${cell(service.service)} | ${cell(describeAction(service))} | ${cell((service.reasons ?? []).join('; '))} |`,
    );
  const more = services.length > ROWS ? [`and ${services.length - ROWS} more`] : [];
  return ['| service | what would happen | why |', '| --- | --- | --- |', ...rows, ...more].join('\n');
}

await start(async () => {
  const number = readEvent().pull_request?.number;
  if (!Number.isInteger(number)) throw new Error('plan-comment is for runs that a pull request started');
  const subject = readInput('subject');
  const mark = `<!-- slipway-plan ${encodeURIComponent(subject)} -->`;
  const commit = readEvent().pull_request.head.sha.slice(0, 7);
  const body = [
    mark,
    `**What a deploy of ${commit} to ${escapeMarkdown(subject)} would change**`,
    renderServices(readInput('plan')),
    `[Run](${runUrl()}). Nothing was changed.`,
  ].join('\n\n');
  const comment = await findComment(number, mark);
  const written =
    comment === undefined
      ? await ask('POST', `issues/${number}/comments`, { body }, PERMISSION)
      : await ask('PATCH', `issues/comments/${comment.id}`, { body }, PERMISSION);
  setOutput('comment', written.id);
});
