// Runs the payment of core/examples/payment.rs in WebAssembly: node tests/wasm/pay.mjs MODULE
//
// The module gets nothing from outside: no clock, no randomness, no file. It has to end with 0,
// which it does when the payment is captured and the wallet has verified the receipt.
import { readFileSync } from "node:fs";

const module = await WebAssembly.compile(readFileSync(process.argv[2]));
const imports = WebAssembly.Module.imports(module);
if (imports.length > 0) {
  console.error("the core asks its host for something:", imports);
  process.exit(1);
}
const { exports } = await WebAssembly.instantiate(module, {});
const exitCode = exports.main(0, 0);
console.log(`a payment in WebAssembly ended with ${exitCode}`);
process.exit(exitCode);
