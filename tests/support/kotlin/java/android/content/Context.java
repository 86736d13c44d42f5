// Signatures of https://developer.android.com/reference/android/content/Context
package android.content;

public class Context {
    public android.content.res.AssetManager getAssets() {
        throw new UnsupportedOperationException();
    }

    public java.io.File getFilesDir() {
        throw new UnsupportedOperationException();
    }
}
