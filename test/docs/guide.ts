/** A document that a test follows: the commands that it runs are read from there, and those that it should have run are known at its end. */
import { blocksOf, commandsOf, SHELLS } from './markdown.ts';
import { COMMANDS, whereIs } from './commands.ts';

export interface Guide {
  /**
   * The commands of one block that this test is to run, in their order. Their text is the document's.
   *
   * @param part of the block's text, that no other block of the document has
   * @param count how many they are, for the test that runs them: one that the document gets later is not taken for one that is run
   * @throws Error where the block has more of them or fewer
   */
  take(part: string, count: number): string[];
  /** What this test was to run, and has not taken. Empty at its end. */
  left(): string[];
}

/**
 * @param test its path: `test/e2e/docs.test.ts`
 * @param replace what stands in the document for something that every reader has of their own, and what the test has
 */
export function openGuide(document: string, test: string, replace: Readonly<Record<string, string>> = {}): Guide {
  const blocks = blocksOf(document)
    .filter(({ language }) => SHELLS.includes(language))
    .map((block) => ({
      block,
      commands: commandsOf(block).filter((command) => {
        const where = whereIs(document, command);
        return where !== undefined && 'by' in where && where.by === test;
      }),
    }));
  const taken = new Set<(typeof blocks)[number]>();
  if (COMMANDS[document] === undefined) throw new Error(`${document} is not in test/docs/commands.ts`);
  return {
    take(part, count) {
      const found = blocks.filter(({ block }) => block.text.includes(part));
      const [only] = found;
      if (only === undefined || found.length > 1) throw new Error(`${found.length} blocks of ${document} have ${part}`);
      if (only.commands.length !== count)
        throw new Error(`${document} has ${only.commands.length} commands for ${test} with ${part}, and not ${count}`);
      taken.add(only);
      return only.commands.map((command) =>
        Object.entries(replace).reduce((text, [from, to]) => text.replaceAll(from, to), command),
      );
    },
    left: () => blocks.flatMap((block) => (taken.has(block) ? [] : block.commands)),
  };
}

/** The one YAML block of a document that has this in it. */
export function exampleWith(document: string, part: string): string {
  const found = blocksOf(document).filter(({ language, text }) => language === 'yaml' && text.includes(part));
  const [only] = found;
  if (only === undefined || found.length > 1) throw new Error(`${found.length} examples of ${document} have ${part}`);
  return only.text;
}
