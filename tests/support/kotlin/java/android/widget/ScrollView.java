// Signatures of https://developer.android.com/reference/android/widget/ScrollView
package android.widget;

public class ScrollView extends android.view.View {
    public ScrollView(android.content.Context context) {
        super(context);
    }

    public void addView(android.view.View child) {}
}
