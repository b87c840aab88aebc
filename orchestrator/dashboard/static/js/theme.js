// Before the first paint: the theme that the person chose; without one the system's is followed.
(() => {
  const chosen = localStorage.getItem("ganctl-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
