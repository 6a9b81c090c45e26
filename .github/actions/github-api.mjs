/** GitHub's API for the actions beside this file: a few requests, tried again where that helps. */
import { appendFileSync, readFileSync } from 'node:fs';

/** https://docs.github.com/rest/about-the-rest-api/api-versions */
const API_VERSION = '2022-11-28';
const ATTEMPTS = 3;
const ATTEMPT_MS = 10_000;
const PAUSE_MS = 500;

export const readInput = (name) => (process.env[`INPUT_${name.toUpperCase()}`] ?? '').trim();

/** @returns {Record<string, any>} the payload of the event that started the run */
export const readEvent = () => JSON.parse(readFileSync(process.env.GITHUB_EVENT_PATH, 'utf8'));

export const runUrl = () =>
  `${process.env.GITHUB_SERVER_URL}/${process.env.GITHUB_REPOSITORY}/actions/runs/${process.env.GITHUB_RUN_ID}`;

export const setOutput = (name, value) => appendFileSync(process.env.GITHUB_OUTPUT, `${name}=${value}\n`);

/**
 * @param {string} method
 * @param {string} path below the repository: `issues?state=open`
 * @param {object} [body]
 * @param {string} permission what the job must allow, for the error's text
 * @returns {Promise<any>} the answer's JSON
 */
export async function ask(method, path, body, permission) {
  const url = `${process.env.GITHUB_API_URL}/repos/${process.env.GITHUB_REPOSITORY}/${path}`;
  for (let attempt = 1; ; attempt++) {
    let problem;
    try {
      const response = await fetch(url, {
        method,
        headers: {
          accept: 'application/vnd.github+json',
          authorization: `Bearer ${readInput('github-token')}`,
          'user-agent': 'slipway',
          'x-github-api-version': API_VERSION,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(ATTEMPT_MS),
      });
      if (response.ok) return await response.json();
      const said = (await response.text()).slice(0, 300);
      problem = `GitHub answered ${response.status} to ${method} ${path}: ${said}`;
      if (response.status === 403 || response.status === 404) {
        problem += `\n  -> Give the job \`permissions: { ${permission}: write }\`, and its caller, too.`;
      }
      // Only what GitHub could not do is asked again; a second POST after a lost answer would make a second issue.
      if (response.status < 500) throw new Refused(problem);
    } catch (error) {
      if (error instanceof Refused) throw error;
      problem ??= `GitHub did not answer ${method} ${path}: ${error.message}`;
    }
    if (attempt === ATTEMPTS || method === 'POST') throw new Error(problem);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** (attempt - 1)));
  }
}

class Refused extends Error {}

/** Text that shows as it is, on one line: neither Markdown, nor HTML, nor a mention, nor a link. */
export function escapeMarkdown(text) {
  return String(text)
    .replaceAll(/\p{Cc}+/gu, ' ')
    .slice(0, 500)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll(/[\\`*_{}[\]()#+!|~]/g, '\\$&')
    .replaceAll('@', '@\u200d')
    .replaceAll(/(https?):\/\//gi, '$1:\u200d//')
    .replaceAll(/\b(www)\./gi, '$1\u200d.');
}

/** @param {() => Promise<void>} work Ends the step with an error that is shown on the run's page. */
export async function start(work) {
  try {
    await work();
  } catch (error) {
    const message = String(error.message).replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
    process.stdout.write(`::error::${message}\n`);
    process.exitCode = 1;
  }
}
