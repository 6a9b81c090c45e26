/** A command as people write it on one line, as words: quotes and backslashes as in a shell, and nothing else of a shell. Pure. */

/**
 * `node "my script.js" --name='a b'` as `['node', 'my script.js', '--name=a b']`. What a shell would expand or connect
 * (`$`, `*`, `;`, `|`, ...) is refused outside of quotes, since it would not happen.
 *
 * https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_02
 */
export function splitWords(text: string): { readonly value: string[] } | { readonly problem: string } {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let index = 0; index < text.length; index++) {
    const character = text.charAt(index);
    const next = text.charAt(index + 1);
    if (quote === "'") {
      if (character === quote) quote = '';
      else word = `${word ?? ''}${character}`;
    } else if (quote === '"') {
      if (character === quote) quote = '';
      else if (character === '\\' && '"\\$`'.includes(next) && next !== '') {
        word = `${word ?? ''}${next}`;
        index++;
      } else if (character === '$' || character === '`') return refuse(character);
      else word = `${word ?? ''}${character}`;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= '';
    } else if (character === '\\') {
      if (next === '') return { problem: 'it ends with a backslash.' };
      word = `${word ?? ''}${next}`;
      index++;
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if ('$`*?[]{}();|&<>~#'.includes(character) && !(character === '#' && word !== undefined)) {
      return refuse(character);
    } else word = `${word ?? ''}${character}`;
  }
  if (quote !== '') return { problem: `a quote (${quote}) is opened and never closed.` };
  if (word !== undefined) words.push(word);
  return { value: words };
}

function refuse(character: string): { readonly problem: string } {
  return {
    problem: `it is not run by a shell, so \`${character}\` would not do what it says. Quote it, or run one yourself: \`sh -c '...'\`.`,
  };
}
