import { judgeConfirmation, type Wanted } from '../src/confirm';

const wanted = (over: Partial<Wanted> = {}): Wanted => ({
  byHand: true,
  project: 'shop',
  wanted: 'previous',
  dryRun: false,
  ...over,
});

test.each([
  ['the project by its name', 'shop', wanted()],
  ['the release by its id', '20261122T010000Z-aaaaaaa', wanted({ wanted: '20261122T010000Z-aaaaaaa' })],
  ['nothing, where nobody pressed a button', '', wanted({ byHand: false })],
  ['nothing, for a dry run', '', wanted({ dryRun: true })],
])('%s', (_name, confirm, what) => {
  expect(() => {
    judgeConfirmation(confirm, what);
  }).not.toThrow();
});

test.each([
  ['nothing', '', wanted(), /is empty.*type the project's name, `shop`/],
  ['another name', 'shoq', wanted(), /is `shoq`.*type the project's name, `shop`/],
  ['another name, though nobody asked', 'shoq', wanted({ byHand: false }), /is `shoq`/],
  ['another name, in a dry run', 'shoq', wanted({ dryRun: true }), /is `shoq`/],
  ['the word that chose it', 'previous', wanted(), /is `previous`/],
  ['another release', 'b', wanted({ wanted: '20261122T010000Z-aaaaaaa' }), /\(or `20261122T010000Z-aaaaaaa`\)/],
  ['what could be any release', '2', wanted({ wanted: '2' }), /is `2`: .*`shop`, there\./],
])('refused: %s', (_name, confirm, what, message) => {
  expect(() => {
    judgeConfirmation(confirm, what);
  }).toThrow(message);
});
