import { randomUUID } from 'node:crypto';
import * as core from '@actions/core';
import { createPalette } from '../model/palette';
import type { Reporter, RunContext, Runner } from '../ports';
import type { Redactor } from '../shell/redact';

/** GitHub shows 10 annotations of a type a step and drops the rest silently; what is over goes to the log only. */
const MAX_ANNOTATIONS = 10;

/** A summary over 1 MiB fails its upload: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits */
const MAX_SUMMARY_BYTES = 1024 * 1024;

export function createRunner(env: NodeJS.ProcessEnv): Runner {
  return {
    context: readContext(env),
    input: (name) => core.getInput(name),
    rawInput: (name) => core.getInput(name, { trimWhitespace: false }),
    setOutput: (name, value) => {
      core.setOutput(name, value);
    },
    saveState: (name, value) => {
      core.saveState(name, value);
    },
    state: (name) => core.getState(name),
  };
}

function readContext(env: NodeJS.ProcessEnv): RunContext {
  const repository = env['GITHUB_REPOSITORY'] ?? '';
  const runId = env['GITHUB_RUN_ID'] ?? '';
  const server = env['GITHUB_SERVER_URL'] ?? 'https://github.com';
  return {
    workspace: env['GITHUB_WORKSPACE'] ?? process.cwd(),
    repository,
    commit: env['GITHUB_SHA'] ?? '',
    ref: env['GITHUB_REF_NAME'] ?? env['GITHUB_REF'] ?? '',
    event: env['GITHUB_EVENT_NAME'] ?? '',
    actor: env['GITHUB_TRIGGERING_ACTOR'] ?? env['GITHUB_ACTOR'] ?? '',
    runUrl: repository !== '' && runId !== '' ? `${server}/${repository}/actions/runs/${runId}` : '',
  };
}

export function createReporter(redactor: Redactor, env: NodeJS.ProcessEnv): Reporter {
  const shown = { notice: 0, warning: 0, error: 0 };
  const annotate = (kind: keyof typeof shown, title: string, text: string): void => {
    const body = redactor.redact(text);
    if (++shown[kind] > MAX_ANNOTATIONS) {
      writeRemote(`${kind}: ${redactor.redact(title)}: ${body}`);
      return;
    }
    core[kind](body, { title: redactor.redact(title) });
  };
  return {
    palette: createPalette((env['NO_COLOR'] ?? '') === ''),
    hide: (value) => {
      // One mask per line is what the runner matches best; `derivedForms` gives the lines of a multi-line value too.
      for (const form of redactor.add(value)) core.setSecret(form);
    },
    redact: (text) => redactor.redact(text),
    line: (text) => {
      writeRemote(redactor.redact(text));
    },
    remote: (text) => {
      writeRemote(redactor.redact(text));
    },
    group: async (title, body) => core.group(redactor.redact(title), body),
    notice: (title, text) => {
      annotate('notice', title, text);
    },
    warning: (title, text) => {
      annotate('warning', title, text);
    },
    error: (title, text) => {
      annotate('error', title, text);
    },
    summary: async (markdown) => {
      const text = redactor.redact(markdown);
      const cut = Buffer.byteLength(text) > MAX_SUMMARY_BYTES - 1024;
      await core.summary
        .addRaw(
          cut
            ? `${Buffer.from(text)
                .subarray(0, MAX_SUMMARY_BYTES - 2048)
                .toString()}\n\n(cut: over 1 MiB)`
            : text,
          true,
        )
        .write();
    },
  };
}

/**
 * Writes text that may hold what a server, a container or a compose file says. The runner obeys workflow commands
 * anywhere at the start of a line, also on stderr, so a container that logs `::set-env` or `::add-mask::` would speak
 * to it. Lines that could be one are put between stop-commands with a token that the text cannot know.
 * https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#stopping-and-starting-workflow-commands
 */
function writeRemote(text: string): void {
  // `\r` alone starts a new line for the runner too; other control characters but TAB, LF and ESC (colour) only garble.
  const clean = text.replaceAll(/\r\n?/g, '\n').replaceAll(/[\0-\x08\x0b-\x1a\x1c-\x1f\x7f]/g, '\u{fffd}');
  if (!/::|##\[/.test(clean)) {
    process.stdout.write(`${clean}\n`);
    return;
  }
  const token = randomUUID();
  process.stdout.write(`::stop-commands::${token}\n${clean}\n::${token}::\n`);
}

/** Ends the action as failed: an error annotation, and exit code 1 once everything has been written. */
export function failRun(message: string): void {
  core.setFailed(message);
}
