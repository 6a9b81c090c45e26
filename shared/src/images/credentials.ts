/** A login for one container registry, and where it may go. */
import type { Secret } from '../model/secret';
import { normalizeRegistry } from './reference';

export interface Credentials {
  /** As people write it; compared by {@link normalizeRegistry}. */
  readonly registry: string;
  readonly username: string;
  readonly password: Secret;
}

/** The login, if it is for this registry. */
export function credentialsFor(registry: string, credentials: Credentials | undefined): Credentials | undefined {
  if (credentials === undefined || credentials.username === '' || credentials.password.isEmpty) return undefined;
  return normalizeRegistry(credentials.registry) === normalizeRegistry(registry) ? credentials : undefined;
}
