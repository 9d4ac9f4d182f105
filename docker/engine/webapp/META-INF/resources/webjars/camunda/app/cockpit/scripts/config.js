// Cockpit's settings. This file comes before the vendor's on the engine's class path, and replaces it.
export default {
  customScripts: ['scripts/finished-instances.js'],
};
