// Loads the rest. A browser drops what it is loading when the host's network interfaces change, as
// they do while microVMs are launched on the same machine: then the page is loaded once more.

const KEPT = "emberkeep.loads";

try {
  await import("./main.js");
  sessionStorage.removeItem(KEPT);
} catch (error) {
  const loads = Number(sessionStorage.getItem(KEPT) ?? 0) + 1;
  sessionStorage.setItem(KEPT, String(loads));
  if (loads > 5) throw error;
  setTimeout(() => location.reload(), 300 * loads);
}
