import fc from 'fast-check';
import { localTag } from '../../src/commands/images';
import { orderUndo, renderJournal, type Journal } from '../../src/guardian/journal';
import { renderVerb } from '../../src/guardian/verbs';
import type { FinishVerb, UndoVerb } from '../../src/model/step';
import { HOSTILE } from '../shells';

const RELEASE = '20261122T110000Z-bbbbbbb';
const PREVIOUS = '20261122T100000Z-aaaaaaa';
const DIGEST = `ghcr.io/acme/web:1@sha256:${'a'.repeat(64)}`;
const base: Journal = { project: 'shop', release: RELEASE, limitSeconds: 300, undo: [], finish: [] };

test('the journal as the guardian reads it', () => {
  expect(
    renderJournal({
      ...base,
      undo: [
        { verb: 'remove-run', name: 'shop-api-migrate-1' },
        { verb: 'take-back-data', release: RELEASE },
        { verb: 'restore-router', router: 'web' },
        { verb: 'drain-new', router: 'web', port: 3000, boundSeconds: 15, service: 'api', ids: ['c1', 'c2'] },
        { verb: 'keep-only', service: 'api', ids: ['c1', 'c2'] },
        { verb: 'keep-only', service: 'new', ids: [] },
        { verb: 'revive', id: 'c1', restart: 'on-failure:3' },
        { verb: 'restore-services', release: PREVIOUS, services: ['db', 'web'], awaited: ['db'] },
        { verb: 'restore-services', release: PREVIOUS, services: ['x'], awaited: [] },
        { verb: 'remove-networks', networks: ['shop_default', 'shop_back'] },
        { verb: 'remove-files', addresses: ['f'.repeat(64)] },
        { verb: 'forget-images', images: [DIGEST, 'web:1', DIGEST] },
        { verb: 'tell-metrics', file: '/var/lib/node_exporter/shop-deploy.prom', task: 'rollback' },
      ],
      finish: [
        {
          verb: 'hand-over',
          retired: ['c1', 'c2'],
          services: [
            { service: 'api', restart: 'on-failure:3', before: ['c1', 'c2'] },
            { service: 'new', restart: 'always', before: [] },
          ],
        },
        { verb: 'hand-over', retired: [], services: [] },
        { verb: 'drain', router: 'web', port: 3000, boundSeconds: 15, ids: ['c1', 'c2'] },
        { verb: 'retire', ids: ['c1', 'c2'] },
        { verb: 'settle-router', router: 'web' },
        { verb: 'remove-services', services: ['old'] },
        { verb: 'remove-releases', releases: [PREVIOUS] },
      ],
    }),
  ).toBe(
    `slipway 2
release ${RELEASE}
limit 300
undo remove-run shop-api-migrate-1
undo take-back-data ${RELEASE}
undo restore-router web
undo drain-new web 3000 15 api c1 c2
undo keep-only api c1 c2
undo keep-only new
undo revive c1 on-failure:3
undo restore-services ${PREVIOUS} db db web
undo restore-services ${PREVIOUS} - x
undo remove-networks shop_default shop_back
undo remove-files ${'f'.repeat(64)}
undo forget-images ${DIGEST} ${localTag('shop', DIGEST)}
undo tell-metrics /var/lib/node_exporter/shop-deploy.prom rollback
finish hand-over c1,c2 api/on-failure:3/c1,c2 new/always/-
finish hand-over -
finish drain web 3000 15 c1 c2
finish retire c1 c2
finish settle-router web
finish remove-services old
finish remove-releases ${PREVIOUS}
end
`,
  );
});

test.each([
  [0, 120],
  [240.2, 241],
  [1e9, 3600],
])('a limit of %p s is written as %p s', (limitSeconds, written) => {
  expect(renderJournal({ ...base, limitSeconds }).split('\n')[2]).toBe(`limit ${written}`);
});

test.each(['', '../../x', `${PREVIOUS}/..`, `${PREVIOUS}\nend`, 'none'])(
  'the release %j is none of ours',
  (release) => {
    expect(() => renderJournal({ ...base, release })).toThrow(RangeError);
  },
);

test.each(HOSTILE.filter((text) => !/^[\w-]+$/.test(text)))('the word %j is refused, in every place', (text) => {
  const verbs: (UndoVerb | FinishVerb)[] = [
    { verb: 'keep-only', service: text, ids: [] },
    { verb: 'keep-only', service: 'web', ids: [text] },
    { verb: 'revive', id: text, restart: 'no' },
    { verb: 'revive', id: 'c1', restart: text },
    { verb: 'restore-services', release: text, services: ['web'], awaited: [] },
    { verb: 'restore-services', release: PREVIOUS, services: [text], awaited: [] },
    { verb: 'restore-services', release: PREVIOUS, services: ['web'], awaited: [text, 'b'] },
    { verb: 'remove-networks', networks: [text] },
    { verb: 'remove-run', name: text },
    { verb: 'take-back-data', release: text },
    { verb: 'restore-router', router: text },
    { verb: 'drain-new', router: text, port: 1, boundSeconds: 1, service: 'web', ids: [] },
    { verb: 'drain-new', router: 'web', port: 1, boundSeconds: 1, service: text, ids: [] },
    { verb: 'drain-new', router: 'web', port: 1, boundSeconds: 1, service: 'web', ids: [text] },
    { verb: 'hand-over', retired: [text, 'c1'], services: [] },
    { verb: 'hand-over', retired: [], services: [{ service: text, restart: 'no', before: [] }] },
    { verb: 'hand-over', retired: [], services: [{ service: 'web', restart: text, before: [] }] },
    { verb: 'hand-over', retired: [], services: [{ service: 'web', restart: 'no', before: [text, 'c1'] }] },
    { verb: 'remove-files', addresses: [text] },
    { verb: 'forget-images', images: [`${text} @sha256:x`] },
    { verb: 'drain', router: text, port: 1, boundSeconds: 1, ids: [] },
    { verb: 'retire', ids: [text] },
    { verb: 'tell-metrics', file: text, task: 'deploy' },
    { verb: 'settle-router', router: text },
    { verb: 'remove-services', services: [text] },
    { verb: 'remove-releases', releases: [text] },
  ];
  // In a list with commas, a name that is empty is none.
  const isListed = (one: UndoVerb | FinishVerb): boolean =>
    one.verb === 'hand-over' || (one.verb === 'restore-services' && one.awaited.includes(text));
  for (const verb of verbs.filter((one) => text !== '' || !isListed(one)))
    expect([verb, () => renderVerb(verb, 'shop')][1]).toThrow(RangeError);
});

/** As `while read -r which words; do [ "$which" = "$half" ] || continue; set -f; set -- $words` of guardian.sh. */
function readAsGuardian(journal: string, half: 'undo' | 'finish'): string[][] {
  return journal
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(/[ \t]+/).filter((word) => word !== ''))
    .filter(([which]) => which === half)
    .map(([, ...words]) => words);
}

test('whatever is given, the guardian reads the words that were meant, or nothing is written (property)', () => {
  const word = fc.oneof(
    fc.string({ unit: fc.constantFrom('a', 'Z', '9', '.', '_', '-', '@', ':', '/', ','), maxLength: 8 }),
    fc.string({ unit: 'binary', maxLength: 4 }),
    fc.constantFrom(...HOSTILE, 'undo', 'end', 'a\nend', 'a\tb'),
  );
  const ids = fc.array(word, { maxLength: 3 });
  const verb = fc.oneof(
    fc.record({ verb: fc.constant('keep-only' as const), service: word, ids }),
    fc.record({ verb: fc.constant('revive' as const), id: word, restart: word }),
    fc.record({ verb: fc.constant('remove-networks' as const), networks: ids }),
  );
  const wordsOf = (one: UndoVerb): string[] => {
    switch (one.verb) {
      case 'keep-only':
        return [one.verb, one.service, ...one.ids];
      case 'revive':
        return [one.verb, one.id, one.restart];
      default:
        return [one.verb, ...(one.verb === 'remove-networks' ? one.networks : [])];
    }
  };
  fc.assert(
    fc.property(fc.array(verb, { maxLength: 4 }), (undo) => {
      let text: string;
      try {
        text = renderJournal({ ...base, undo });
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
        return;
      }
      expect(readAsGuardian(text, 'undo')).toEqual(undo.map(wordsOf));
      expect(readAsGuardian(text, 'finish')).toEqual([]);
    }),
    { numRuns: 2000 },
  );
});

test('the way back, in order: migration, router, who came by it, what is new, what was there, networks, files, images', () => {
  const restore = (services: string[], awaited: string[] = []): UndoVerb => ({
    verb: 'restore-services',
    release: PREVIOUS,
    services,
    awaited,
  });
  const ordered: UndoVerb[] = [
    { verb: 'remove-run', name: 'm' },
    { verb: 'restore-router', router: 'web' },
    { verb: 'drain-new', router: 'web', port: 80, boundSeconds: 15, service: 'a', ids: [] },
    { verb: 'keep-only', service: 'a', ids: [] },
    { verb: 'keep-only', service: 'b', ids: ['c1'] },
    { verb: 'revive', id: 'c1', restart: 'no' },
    { verb: 'revive', id: 'c2', restart: 'no' },
    restore(['db', 'api', 'web', 'stray'], ['api', 'db']),
    { verb: 'remove-networks', networks: ['n'] },
    { verb: 'remove-files', addresses: ['f'] },
    { verb: 'forget-images', images: [DIGEST] },
  ];
  const given = [
    ...ordered.slice(8).reverse(),
    restore(['web', 'api'], ['api']),
    ...ordered.slice(2, 7),
    restore(['stray', 'db'], ['db', 'api']),
    ...ordered.slice(0, 2).reverse(),
  ];
  expect(orderUndo(given, ['db', 'api', 'web'])).toEqual(ordered);
  expect(orderUndo([], ['db'])).toEqual([]);
});
