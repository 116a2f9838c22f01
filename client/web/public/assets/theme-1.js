// Before the first paint, so that the page does not flash. See src/ui/theme.ts. A classic script,
// as modules wait for the document. Its name is its version: it is cached for good.
(() => {
  try {
    const theme = localStorage.getItem("capsule.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser without storage: the system's choice.
  }
})();
