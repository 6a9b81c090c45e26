/** What scripts on the server answer: a line of JSON for each thing, with its `kind`. Read without trusting it: pure. */
import { type Json, parseJson, readMember } from '../json';

export type Answer = { readonly [key: string]: Json };

export const CUT_OFF = "the server's answer is cut off";
export const SHA256 = /^[0-9a-f]{64}$/;

/** @throws SyntaxError for a line that is anything else. */
export function readAnswers(output: string): Answer[] {
  return output
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const value = parseJson(line);
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new SyntaxError(`the server's answer has a line that is not JSON: ${line.slice(0, 200)}`);
      return value as Answer;
    });
}

/** The one of a kind. @throws SyntaxError where there is none, or a second. */
export function onlyAnswer(answers: readonly Answer[], kind: string): Answer {
  const [first, second] = answers.filter((answer) => readMember(answer, 'kind') === kind);
  if (first === undefined) throw new SyntaxError(CUT_OFF);
  if (second !== undefined) throw new SyntaxError(`the server's answer has more than one "${kind}"`);
  return first;
}

/** @throws SyntaxError */
export function readString(answer: Answer, key: string, pattern = /^/): string {
  const value = readMember(answer, key);
  if (typeof value !== 'string' || !pattern.test(value))
    throw new SyntaxError(`the server's answer has no usable "${key}"`);
  return value;
}

/** A whole number from 0 on. @throws SyntaxError */
export function readCount(answer: Answer, key: string): number {
  const value = readMember(answer, key);
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new SyntaxError(`the server's answer has no number "${key}"`);
  return value;
}
