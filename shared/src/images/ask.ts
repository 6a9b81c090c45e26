/** What registries say of the images of one deploy. */
import { DESCRIBE_DAEMON } from '../commands/server';
import { ImageError } from '../errors';
import type { Session } from '../ports';
import { type DaemonFacts, parseDaemon } from './daemon';
import { parseReference, pin } from './reference';
import { resolveImage, type Resolution, type ResolveOptions } from './registry';

/** @returns what there is, or why it cannot be had. @throws ConnectError if the server is lost; CancelledError. */
export type AskImage = (reference: string) => Promise<Resolution | ImageError>;

export interface AskOptions extends Pick<ResolveOptions, 'http' | 'clock' | 'session' | 'credentials' | 'signal'> {
  /** Of the server; asked for before its facts are known. */
  readonly daemon: Promise<DaemonFacts>;
  /** Whether the server has an image, given by name and digest. */
  readonly isPresent: (pinned: string) => Promise<boolean>;
}

/** Each image is asked for once. */
export function askRegistries({ daemon, isPresent, ...options }: AskOptions): AskImage {
  // Nobody may come to need it.
  daemon.catch(() => undefined);
  const asked = new Map<string, Promise<Resolution | ImageError>>();
  const ask = async (text: string): Promise<Resolution | ImageError> => {
    const parsed = parseReference(text);
    if ('problem' in parsed) return new ImageError(`Image \`${text}\`: ${parsed.problem}`, '');
    const reference = parsed.value;
    try {
      return await resolveImage(reference, {
        ...options,
        daemon: await daemon,
        isPresent: (digest) => isPresent(pin(reference, digest)),
      });
    } catch (error) {
      if (error instanceof ImageError) return error;
      throw error;
    }
  };
  return (text) => {
    const answer = asked.get(text) ?? ask(text);
    // Who asked ahead may never come back for it.
    answer.catch(() => undefined);
    asked.set(text, answer);
    return answer;
  };
}

/** @throws CommandError, ImageError where there is no daemon for us; ConnectError, CancelledError. */
export async function readDaemon(session: Session, signal: AbortSignal): Promise<DaemonFacts> {
  const { stdout } = await session.run(DESCRIBE_DAEMON, { purpose: 'ask for its Docker Engine', signal });
  return parseDaemon(stdout);
}
