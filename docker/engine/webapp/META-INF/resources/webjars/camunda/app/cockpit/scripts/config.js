// Cockpit's settings. Stands before the vendor's file on the engine's class path.
export default {
  customScripts: ['scripts/finished-instances.js'],
};
