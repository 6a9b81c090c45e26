/** What Slipway asks of `docker compose`: pure. One project name and one project directory for every release. */
import type { Command } from '../model/command';
import type { Secret } from '../model/secret';

export interface ComposeTarget {
  readonly project: string;
  /** Absolute. */
  readonly projectDirectory: string;
}

function compose(target: ComposeTarget, file: string, ...words: readonly string[]): Command {
  return {
    words: ['docker', 'compose', '--ansi', 'never', '--project-name', target.project, '--project-directory', target.projectDirectory, '--file', file, ...words],
  };
}

/**
 * Creates or recreates exactly these services. Images are there already and pinned, so nothing is pulled or built;
 * `--no-deps` since the plan says what else changes.
 */
export function upServices(target: ComposeTarget, file: string, services: readonly string[]): Command {
  return compose(target, file, 'up', '--detach', '--no-deps', '--no-build', '--pull', 'never', '--quiet-pull', ...services);
}

export function stopServices(target: ComposeTarget, file: string, services: readonly string[]): Command {
  return compose(target, file, 'stop', ...services);
}

/** The configuration hash of each service of a rendered file given on standard input: lines `service hash`. */
export function hashServices(target: ComposeTarget, rendered: Secret): Command {
  return { ...compose(target, '-', 'config', '--hash', '*'), stdin: rendered };
}
