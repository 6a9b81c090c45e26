/** What Docker's words for a failed pull mean. Pure. */
import { ImageError } from '../errors';
import { excerpt } from '../shell/excerpt';
import { familiarName, formatFamiliar, type ImageReference, wanted } from './reference';

export interface PullFailure {
  readonly error: ImageError;
  /** It may go well the next time. */
  readonly passing: boolean;
  /** The registry did not want to give it to us. */
  readonly refused: boolean;
}

/** Of the network or of a server in trouble; Go's and the registries' words. */
const PASSING = [
  /time(?:d )?-?out/i,
  /deadline exceeded/i,
  /connection (?:reset|refused)/i,
  /broken pipe/i,
  /\bEOF\b/,
  /temporary failure|try again/i,
  /server misbehaving/i,
  /network is unreachable|no route to host/i,
  /TLS handshake/i,
  /(?:status(?: code)?:? |HTTP status: )5\d\d/i,
  /\b50[0234] (?:Internal|Bad|Service|Gateway)/i,
  /blob upload unknown|short read|failed to copy/i,
];

/** @param username of the login that was used; undefined: the server's own, if any. */
export function explainPullFailure(
  text: string,
  reference: ImageReference,
  where: string,
  username: string | undefined,
): PullFailure {
  const said = excerpt(text, 500);
  const image = formatFamiliar(reference);
  const registry = `registry ${reference.registry}`;
  const subject = `Registry ${reference.registry}`;
  const fail = (message: string, hint: string, passing = false, refused = false): PullFailure => ({
    error: new ImageError(message, hint),
    passing,
    refused,
  });
  const is = (pattern: RegExp): boolean => pattern.test(said);

  if (is(/no space left on device|disk quota exceeded/i)) {
    return fail(
      `The disk of ${where} is full: ${image} could not be pulled. Docker says: ${said}`,
      'See what uses it with `docker system df` and `df -h`, and make room with `docker image prune` or `docker builder prune`.',
    );
  }
  if (
    is(/cannot connect to the docker daemon|permission denied while trying to connect|docker: (?:command )?not found/i)
  ) {
    return fail(
      `Docker on ${where} cannot be used: ${said}`,
      'Is the daemon up, and is the user in the group docker? `docker info` must work for that user without sudo.',
    );
  }
  if (is(/toomanyrequests|too many requests|rate limit/i)) {
    return fail(
      `${subject} answers no more for now: too many requests. It says: ${said}`,
      username === undefined
        ? 'Log in: set registry, registry-username and registry-password (a login has a higher limit), use a registry mirror, or wait.'
        : 'Wait before the next deploy, or use a registry mirror.',
    );
  }
  if (is(/server gave HTTP response to HTTPS client/i)) {
    return fail(
      `${subject} does not speak TLS, so Docker on ${where} does not pull from it.`,
      `Give the registry a certificate. In a closed network, \`"insecure-registries": ["${reference.registry}"]\` in /etc/docker/daemon.json allows plain http.`,
    );
  }
  if (is(/x509:|certificate/i)) {
    return fail(
      `The TLS certificate of ${registry} cannot be verified by Docker on ${where}: ${said}`,
      `Put the certificate of its authority on the server into /etc/docker/certs.d/${reference.registry}/ca.crt.`,
    );
  }
  if (is(/no matching manifest for|does not match the specified platform|no match for platform/i)) {
    return fail(
      `${image} is not made for the platform of ${where}: ${said}`,
      'Build the image for the server too (`docker buildx build --platform`).',
    );
  }
  if (
    is(
      /incorrect username or password|unauthorized|authentication required|no basic auth credentials|denied|forbidden/i,
    )
  ) {
    return username === undefined
      ? fail(
          `${subject} does not show ${familiarName(reference)} to ${where}: it needs a login, or does not exist. Docker says: ${said}`,
          'Set registry, registry-username and registry-password, or log in on the server with `docker login`. Check the name too.',
          false,
          true,
        )
      : fail(
          `${subject} does not let user ${JSON.stringify(excerpt(username, 100))} pull ${familiarName(reference)}: the login is wrong, the user may not read it, or it does not exist. Docker says: ${said}`,
          'Check registry-username and registry-password; many registries want an access token with the right to read packages.',
          false,
          true,
        );
  }
  if (is(/manifest unknown|manifest for .* not found|name unknown|repository name not known|not found/i)) {
    return fail(
      reference.digest === ''
        ? `${subject} has no image ${familiarName(reference)} with tag ${wanted(reference)}. Docker says: ${said}`
        : `${subject} has no image ${familiarName(reference)} with digest ${reference.digest}. Docker says: ${said}`,
      'Check the name, and that the image was pushed before this deploy.',
    );
  }
  if (is(/no such host|dial tcp: lookup/i)) {
    return fail(
      `${where} cannot find ${registry}: ${said}`,
      'Check the registry in the image name, and the DNS settings of the server.',
      !is(/no such host/i),
    );
  }
  return fail(
    `${image} could not be pulled on ${where}: ${said}`,
    "Try `docker pull` on the server; `journalctl -u docker` there has the daemon's view.",
    PASSING.some(is),
  );
}
