// A command in AssemblyScript: classes, strings, a garbage collector, numbers as text.
class Word {
  constructor(public text: string, public count: i32) {}
}
const words = new Map<string, Word>();
for (let index = 1; index < process.argv.length; index++) {
  const text = process.argv[index];
  if (!words.has(text)) words.set(text, new Word(text, 0));
  words.get(text).count++;
}
const found = words.values().sort((a, b) => b.count - a.count || a.text.length - b.text.length);
for (let index = 0; index < found.length; index++) {
  console.log(found[index].text + " " + found[index].count.toString());
}
let sum: f64 = 0;
for (let number = 1; number <= 100000; number++) sum += 1.0 / <f64>number;
console.log(sum.toString());
process.exit(found.length);
