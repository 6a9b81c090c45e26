/**
 * What libraries throw, read without trust in its class: an error can come from another realm (a test's), or be none at all.
 */
import { excerpt } from '../shell/excerpt';

/** A property of whatever was thrown. */
export function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

export function messageOf(error: unknown): string {
  const message = field(error, 'message');
  return typeof message === 'string' ? message : '';
}

export function codeOf(error: unknown): string {
  // Several addresses, several errors: the first one speaks for all.
  const code = field(error, 'code') ?? field(field(field(error, 'errors'), '0'), 'code');
  return typeof code === 'string' ? code : '';
}

/** What someone else's error says, in brackets. */
export function inBrackets(error: unknown): string {
  const message = excerpt(messageOf(error), 120);
  return message === '' ? '' : ` (${message})`;
}
