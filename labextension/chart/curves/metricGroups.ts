/** Metrics that belong into one chart: the same quantity in different phases, as `loss` and `val_loss`. */
export interface MetricGroup {
  /** The quantity; if the group has one metric, the metric's name. */
  label: string;
  /** Training first, then validation, then test. */
  metrics: string[];
}

const PHASES: readonly RegExp[] = [
  /^(train|training|tr|trn)$/,
  /^(val|valid|validation|eval|evaluation|dev)\d*$/,
  /^(test|testing|tst|holdout)\d*$/
];
/** Words at the end of a name that say over what a value was taken, not what it is. */
const SPAN = /^(step|epoch|batch|iter|iteration)$/;
/** Of a metric without a phase in its name, which is nearly always one of the training. */
const NO_PHASE = 0;

/** `loss` and `val_loss`, `train/loss` and `val/loss`, `trainAcc` and `validAcc` are groups; others stand alone. */
export function groupMetrics(names: Iterable<string>): MetricGroup[] {
  const groups = new Map<string, { name: string; phase: number; base: string }[]>();
  for (const name of names) {
    const { base, phase } = partsOf(name);
    const members = groups.get(base) ?? [];
    members.push({ name, phase, base });
    groups.set(base, members);
  }
  return [...groups.values()].map(members => {
    const [only] = members;
    return members.length === 1 && only !== undefined
      ? { label: only.name, metrics: [only.name] }
      : {
          label: only?.base ?? '',
          metrics: members.sort((a, b) => a.phase - b.phase).map(({ name }) => name)
        };
  });
}

/** The group to show first: that of a loss, else the first. */
export function firstChoice(groups: readonly MetricGroup[]): MetricGroup | undefined {
  return (
    groups.find(({ metrics }) => metrics.includes('loss')) ??
    groups.find(({ metrics }) => metrics.some(name => wordsOf(name).includes('loss'))) ??
    groups[0]
  );
}

function partsOf(name: string): { base: string; phase: number } {
  const words = wordsOf(name);
  const isPhase = (word: string): boolean => PHASES.some(pattern => pattern.test(word));
  const rest = words.filter(word => !isPhase(word));
  if (rest.length === 0 || words.length === 0) {
    return { base: name, phase: NO_PHASE }; // a metric that is called "train" or "val"
  }
  if (rest.length < words.length && rest.length > 1 && SPAN.test(rest[rest.length - 1] ?? '')) {
    rest.pop();
  }
  const phase = PHASES.findIndex(pattern => words.some(word => pattern.test(word)));
  return { base: rest.join(' '), phase: phase < 0 ? NO_PHASE : phase };
}

/** The words of a name, in lower case: separated by signs, spaces or capitals. */
function wordsOf(name: string): string[] {
  return name
    .replace(/([\p{Ll}\d])(\p{Lu})/gu, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{N}@%]+/u)
    .filter(word => word !== '');
}
